//! One attempt at a write: what it makes, for which caller, and how it fails.

use std::ffi::OsString;
use std::path::Path;

use super::control::Control;
use super::events::{Observer, WriteEvent};
use super::options::{Options, WriteRequest};
use crate::error::{ErrorKind, Failure};
use crate::fs::{File, FileSystem, Metadata};
use crate::payload::Payload;

/// What one attempt makes, and for which caller.
pub(crate) struct WriteAttempt<'a, F: FileSystem> {
    pub(crate) path: &'a Path,
    pub(crate) options: &'a Options,
    pub(crate) content: ContentSource<'a, F>,
    pub(crate) destination: Destination<'a>,
    /// Whether an earlier attempt has put the content in place, which this one replaces.
    pub(crate) is_in_place: bool,
    pub(crate) control: &'a Control,
    pub(crate) observer: Option<&'a dyn Observer>,
}

/// Where the bytes of a file come from.
pub(crate) enum ContentSource<'a, F: FileSystem> {
    /// Memory.
    Payload(&'a Payload),
    /// Another file, from its beginning to its end.
    File(&'a CopySource<F>),
    /// A stream, which has written them piece by piece.
    Stream,
}

/// An open file that is copied. Whatever its name stands for meanwhile, this is the file that
/// was opened.
pub(crate) struct CopySource<F: FileSystem> {
    pub(crate) file: File<F>,
    /// As it was when it was opened.
    pub(crate) metadata: Metadata,
}

/// Which name the new file gets.
#[derive(Clone, Copy)]
pub(crate) enum Destination<'a> {
    /// That of the target, whose place it takes.
    Target,
    /// The first of these that nothing has.
    FreeName(&'a dyn Fn(u64) -> OsString),
}

impl<'a, F: FileSystem> WriteAttempt<'a, F> {
    pub(crate) fn new(
        request: &'a WriteRequest,
        control: &'a Control,
        observer: Option<&'a dyn Observer>,
    ) -> WriteAttempt<'a, F> {
        WriteAttempt {
            path: &request.path,
            options: &request.options,
            content: ContentSource::Payload(&request.payload),
            destination: Destination::Target,
            is_in_place: false,
            control,
            observer,
        }
    }

    /// Whether the file has to be made and may replace none.
    pub(crate) fn creates_only(&self) -> bool {
        self.options.create_only && !self.is_in_place
    }

    /// How many bytes there should be; a file may change until they have been copied.
    pub(crate) fn expected_size(&self) -> u64 {
        match self.content {
            ContentSource::Payload(payload) => payload.len() as u64,
            ContentSource::File(source) => source.metadata.size,
            ContentSource::Stream => 0,
        }
    }

    /// The file whose attributes the new file gets if it does not replace one.
    pub(crate) fn model(&self) -> Option<&CopySource<F>> {
        match self.content {
            ContentSource::Payload(_) | ContentSource::Stream => None,
            ContentSource::File(source) => Some(source),
        }
    }

    /// Reports an event to the observer. Without one the event is not even built.
    pub(crate) fn report(&self, event: impl FnOnce() -> WriteEvent) {
        if let Some(observer) = self.observer {
            observer.event(event());
        }
    }
}

/// Why an attempt failed.
#[derive(Debug)]
pub struct AttemptError {
    /// Why.
    pub kind: ErrorKind,
    /// Whether the new content is in place all the same.
    pub committed: bool,
}

impl AttemptError {
    /// The same, where an earlier attempt may have put the new content in place.
    pub(crate) fn or_committed(self, is_committed: bool) -> AttemptError {
        AttemptError { committed: self.committed || is_committed, ..self }
    }
}

impl From<ErrorKind> for AttemptError {
    fn from(kind: ErrorKind) -> AttemptError {
        AttemptError { kind, committed: false }
    }
}

impl From<Failure> for AttemptError {
    fn from(failure: Failure) -> AttemptError {
        ErrorKind::from(failure).into()
    }
}
