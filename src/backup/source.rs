//! The file that is copied.

use std::path::Path;

use crate::error::{Code, Failure};
use crate::fs::{DirUse, FileKind, FileSystem, is_placeholder};
use crate::resolve;
use crate::write::CopySource;

/// Opens the file that is to be copied.
pub(super) fn open<F: FileSystem>(fs: &F, path: &Path) -> Result<CopySource<F>, Failure> {
    let target = resolve::target(fs, path, true, DirUse::Names)?;
    let refused = |code: Code| Failure::at("open", target.path(), code.error());
    let file = target.open()?.ok_or_else(|| refused(Code::ENOENT))?;
    let metadata = file.metadata().map_err(|failure| failure.on(target.path()))?;
    // A directory that cannot be listed says nothing about that.
    if metadata.is_empty_file()
        && target.dir.names().is_ok_and(|names| is_placeholder(&target.name, &names))
    {
        return Err(refused(Code::ENOENT));
    }
    match metadata.kind {
        FileKind::File => Ok(CopySource { file, metadata }),
        _ => Err(refused(Code::EINVAL)),
    }
}
