//! A write whose bytes come one after another.

use std::path::PathBuf;
use std::time::Instant;

use super::attempt::{AttemptError, ContentSource, Destination, WriteAttempt};
use super::control::Control;
use super::events::Observer;
use super::fill;
use super::options::Options;
use super::publish;
use super::staged_write::StagedWrite;
use super::temp_file::check_replaceable;
use crate::fs::FileSystem;
use crate::metrics::METRICS;
use crate::payload::Payload;
use crate::vocabulary::GuardedFile;

/// A temp file that is being filled. It becomes the target by [`Stream::commit`]; however else
/// it ends, it is removed.
pub struct Stream<F: FileSystem> {
    path: PathBuf,
    options: Options,
    /// `None` once it has ended.
    staged: Option<StagedWrite<F>>,
}

impl<F: FileSystem> Stream<F> {
    /// Makes the temp file.
    ///
    /// # Errors
    ///
    /// As for a write, up to its first byte.
    pub fn open(
        fs: F,
        path: PathBuf,
        options: Options,
        control: &Control,
        observer: Option<&dyn Observer>,
    ) -> Result<Stream<F>, AttemptError> {
        let mut stream = Stream { path, options, staged: None };
        let staged = StagedWrite::create(&fs, &stream.attempt(control, observer), None);
        stream.staged = Some(staged.inspect_err(|error| METRICS.writes.failed(&error.kind))?);
        Ok(stream)
    }

    /// Where its temp file is; nowhere once it has ended.
    pub fn temp_path(&self) -> Option<PathBuf> {
        self.staged.as_ref().map(StagedWrite::temp_path)
    }

    /// From now on the target has to be the file whose lock is held.
    pub fn restrict_to(&mut self, only: GuardedFile) {
        self.options.only = Some(Box::new(only));
    }

    /// Appends bytes.
    ///
    /// # Errors
    ///
    /// The failure of the system. The stream has ended then, and its temp file is removed.
    pub fn write(
        &mut self,
        payload: &Payload,
        control: &Control,
        observer: Option<&dyn Observer>,
    ) -> Result<(), AttemptError> {
        let Some(mut staged) = self.staged.take() else { return Ok(()) };
        match fill::append(&staged.temp.file, payload, control) {
            Ok(()) => {
                staged.size += payload.len() as u64;
                self.staged = Some(staged);
                Ok(())
            }
            Err(error) => {
                METRICS.writes.failed(&error.kind);
                Err(staged.abandoned(&self.attempt(control, observer), error))
            }
        }
    }

    /// Makes what has been written the target.
    ///
    /// # Errors
    ///
    /// As for a write, from its last byte on.
    pub fn commit(
        mut self,
        control: &Control,
        observer: Option<&dyn Observer>,
    ) -> Result<(), AttemptError> {
        let (begun, durability) = (Instant::now(), self.options.durability);
        let Some(mut staged) = self.staged.take() else { return Ok(()) };
        let attempt = self.attempt(control, observer);
        let completed = look_again(&mut staged, &self.options);
        let completed = completed.and_then(|()| staged.complete(&attempt));
        let outcome = match completed {
            Ok(()) => staged.commit(&attempt).map(drop),
            Err(error) => Err(staged.abandoned(&attempt, error)),
        };
        let answered = outcome.as_ref().map(drop).map_err(|error| &error.kind);
        METRICS.writes.answered(begun, durability, answered);
        outcome
    }

    /// Ends without a trace.
    pub fn remove(mut self, observer: Option<&dyn Observer>) {
        self.remove_temp_file(observer);
    }

    fn remove_temp_file(&mut self, observer: Option<&dyn Observer>) {
        if let Some(staged) = self.staged.take() {
            staged.remove(&self.attempt(&Control::default(), observer));
        }
    }

    fn attempt<'a>(
        &'a self,
        control: &'a Control,
        observer: Option<&'a dyn Observer>,
    ) -> WriteAttempt<'a, F> {
        let (content, destination) = (ContentSource::Stream, Destination::Target);
        let Stream { path, options, .. } = self;
        let is_in_place = false;
        WriteAttempt { path, options, content, destination, is_in_place, control, observer }
    }
}

/// Looks at the target again, because much time may have passed: what is there now is what is
/// replaced.
fn look_again<F: FileSystem>(
    staged: &mut StagedWrite<F>,
    options: &Options,
) -> Result<(), AttemptError> {
    let target = &mut staged.target;
    options.guarded().map_or(Ok(()), |only| target.must_be(only))?;
    target.existing = target.dir.look(&target.name)?;
    if options.create_only && target.existing.is_some() {
        return Err(publish::exists(target).into());
    }
    Ok(check_replaceable(target, target.existing.as_ref())?)
}

impl<F: FileSystem> Drop for Stream<F> {
    fn drop(&mut self) {
        self.remove_temp_file(None);
    }
}
