//! A file that is staged beside its target under a name of the caller's, and published by the
//! caller: what a transaction makes several of.

use std::ffi::OsString;
use std::io;

use super::control::Control;
use super::stage::{self, Source, Temp};
use super::{AttemptError, Options};
use crate::error::Code;
use crate::error::Failure;
use crate::fs::{FileSystem, uninterrupted};
use crate::payload::Payload;
use crate::resolve::Target;
use crate::threads::blocking;

/// A temp file that has its bytes, its owner and its mode.
pub(crate) struct StagedFile<F: FileSystem> {
    temp: Temp<F>,
}

impl<F: FileSystem> StagedFile<F> {
    /// Makes it under this name, and does not sync it. What fails leaves nothing behind, as far
    /// as it can be removed.
    pub(crate) fn new(
        fs: &F,
        target: &Target<F>,
        name: OsString,
        payload: &Payload,
        options: &Options,
        control: &Control,
    ) -> Result<StagedFile<F>, AttemptError> {
        let temp = stage::create(fs, target, options, None, name.clone())?;
        let staged = StagedFile { temp };
        let fill = || {
            if staged.temp.name != name {
                // A signal came between, or something had the name: it got that of an ordinary
                // temp file. The next attempt has another id.
                let taken = Code::EAGAIN.error();
                return Err(Failure::at("open", target.dir.shown(&name), taken).into());
            }
            let source = Source::Payload(payload);
            let size = stage::fill(fs, &staged.temp, &source, control)?;
            stage::complete(fs, target, &staged.temp, options, None, size, control)
        };
        match fill() {
            Ok(()) => Ok(staged),
            Err(error) => {
                let _ = staged.discard(fs, target);
                Err(error)
            }
        }
    }

    /// The open file.
    pub(crate) fn file(&self) -> &F::FileHandle {
        &self.temp.file
    }

    /// Waits until its bytes and attributes are on the disk. Never called again after a failure.
    pub(crate) fn sync(&self, fs: &F) -> Result<(), Failure> {
        uninterrupted(|| blocking(|| fs.sync_file(&self.temp.file)))
            .map_err(|error| Failure::new("fsync", error))
    }

    /// Removes it.
    pub(crate) fn discard(&self, fs: &F, target: &Target<F>) -> io::Result<()> {
        stage::discard(fs, target, &self.temp)
    }
}
