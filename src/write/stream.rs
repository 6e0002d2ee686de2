//! A write whose bytes come one after another.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use super::events::Log;
use super::stage::{self, Source};
use super::{
    AttemptError, Control, Draft, Job, Name, Observer, Options, abandon, begin, check_place,
    commit, complete,
};
use crate::error::Failure;
use crate::fs::{FileSystem, uninterrupted};
use crate::metrics::METRICS;
use crate::payload::Payload;
use crate::resolve::Target;

/// A temp file that is being filled. It becomes the target by [`Stream::commit`]; however else
/// it ends, it is removed.
pub struct Stream<F: FileSystem> {
    fs: F,
    path: PathBuf,
    options: Options,
    /// `None` once it is over.
    draft: Option<Draft<F>>,
    size: u64,
    begun: Instant,
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
        let mut stream = Stream { fs, path, options, draft: None, size: 0, begun: Instant::now() };
        let mut log = Log::new(observer, &stream.path, 0, stream.begun);
        let draft = begin(&stream.fs, &stream.job(), control, None, &mut log);
        stream.draft = Some(draft.inspect_err(|error| METRICS.writes.failed(&error.kind))?);
        Ok(stream)
    }

    /// Appends bytes.
    ///
    /// # Errors
    ///
    /// What the system says. The stream is over then, and its temp file gone.
    pub fn write(
        &mut self,
        payload: &Payload,
        control: &Control,
        observer: Option<&dyn Observer>,
    ) -> Result<(), AttemptError> {
        let Some(draft) = &self.draft else { return Ok(()) };
        match stage::write_all(&self.fs, &draft.temp, payload, control) {
            Ok(()) => self.size += payload.len() as u64,
            Err(error) => {
                METRICS.writes.failed(&error.kind);
                self.end(observer, |stream, draft, log| abandon(&stream.fs, draft, &error, log));
                return Err(error);
            }
        }
        Ok(())
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
        let committed = self.end(observer, |stream, draft, log| {
            stream
                .look_again(&mut draft.target)
                .inspect_err(|error| abandon(&stream.fs, draft, error, log))?;
            let job = stream.job();
            complete(&stream.fs, draft, &job, stream.size, control)
                .inspect_err(|error| abandon(&stream.fs, draft, error, log))?;
            commit(&stream.fs, draft, &job, control, log).map(drop)
        });
        let Some(outcome) = committed else { return Ok(()) };
        let told = outcome.as_ref().map(drop).map_err(|error| &error.kind);
        METRICS.writes.answered(begun, durability, told);
        outcome
    }

    /// Much time may have passed: what is there now is what is replaced.
    fn look_again(&self, target: &mut Target<F>) -> Result<(), AttemptError> {
        target.existing =
            match uninterrupted(|| self.fs.metadata(target.dir.handle(), &target.name)) {
                Ok(found) => Some(found),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    return Err(Failure::at("lstat", target.path(), error).into());
                }
            };
        Ok(check_place(target)?)
    }

    /// Ends without a trace.
    pub fn discard(mut self, observer: Option<&dyn Observer>) {
        self.end(observer, Stream::remove);
    }

    fn remove(&self, draft: &mut Draft<F>, log: &Log<'_>) {
        log.cleaned_up(stage::discard(&self.fs, &draft.target, &draft.temp));
    }

    fn job(&self) -> Job<'_, F> {
        Job { path: &self.path, options: &self.options, source: Source::Pieces, name: Name::Target }
    }

    /// Does the last thing with the temp file.
    fn end<T>(
        &mut self,
        observer: Option<&dyn Observer>,
        last: impl FnOnce(&Stream<F>, &mut Draft<F>, &Log<'_>) -> T,
    ) -> Option<T> {
        let mut draft = self.draft.take()?;
        let mut log = Log::new(observer, &self.path, self.size, self.begun);
        log.staged_at(draft.target.dir.path(), &draft.temp.name);
        Some(last(self, &mut draft, &log))
    }
}

impl<F: FileSystem> Drop for Stream<F> {
    fn drop(&mut self) {
        self.end(None, Stream::remove);
    }
}
