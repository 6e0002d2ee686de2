//! What goes wrong, and when.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SimFs;
use holdfast::error::Code;

macro_rules! kinds {
    ($($name:ident = $text:literal;)*) => {
        /// A kind of operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum OperationKind { $($name,)* }

        impl OperationKind {
            /// Every kind there is.
            pub const ALL: &'static [OperationKind] = &[$(OperationKind::$name,)*];

            /// What the log calls it.
            pub fn name(self) -> &'static str {
                match self { $(OperationKind::$name => $text,)* }
            }
        }
    };
}

kinds! {
    OpenDir = "open directory";
    RealPath = "real path";
    DirMetadata = "directory metadata";
    MakeDir = "make directory";
    RemoveDir = "remove directory";
    Names = "names";
    Metadata = "metadata";
    Modified = "modified";
    ReadLink = "read link";
    CreateNew = "create new";
    Open = "open";
    OpenToChange = "open to change";
    OpenToWrite = "open to write";
    OpenToKeep = "open to keep";
    TryLock = "try lock";
    FileMetadata = "file metadata";
    Write = "write";
    WriteAt = "write at";
    SetSize = "set size";
    Read = "read";
    CloneContent = "clone content";
    Copy = "copy";
    SetOwner = "set owner";
    SetMode = "set mode";
    Extended = "extended attributes";
    FileExtended = "file extended attributes";
    SetExtended = "set extended attribute";
    ReportWriteErrors = "report write errors";
    BeginWriteBack = "begin write-back";
    AwaitWriteBack = "await write-back";
    SyncFile = "sync file";
    SyncData = "sync data";
    Rename = "rename";
    RenameNew = "rename new";
    SyncDir = "sync directory";
    SyncFilesystem = "sync filesystem";
    Remove = "remove";
    DirModified = "directory modified";
    SetDirModified = "set directory modified";
    TryLockDir = "try lock directory";
    Exchange = "exchange";
}

impl OperationKind {
    /// Whether it opens a file or a directory.
    pub(super) fn opens(self) -> bool {
        use OperationKind::{CreateNew, Open, OpenDir, OpenToChange, OpenToKeep, OpenToWrite};
        matches!(self, OpenDir | CreateNew | Open | OpenToChange | OpenToWrite | OpenToKeep)
    }
}

/// An operation that was asked of the disk.
#[derive(Clone, Debug)]
pub struct Performed {
    /// Its number; the first is 1.
    pub number: u64,
    /// What kind of operation it was.
    pub kind: OperationKind,
    /// What it was applied to, by its path at the time.
    pub path: PathBuf,
    /// The rest of its arguments, for people.
    pub detail: String,
    /// What it answered; `None` is success.
    pub error: Option<String>,
    /// What the simulation did to it, for people; empty when it took its course.
    pub fault: String,
}

impl fmt::Display for Performed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4} {} {}", self.number, self.kind.name(), self.path.display())?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        if let Some(error) = &self.error {
            write!(f, ": {error}")?;
        }
        if !self.fault.is_empty() {
            write!(f, " [{}]", self.fault)?;
        }
        Ok(())
    }
}

type PriorAct = Arc<dyn Fn(&SimFs, &Path) + Send + Sync>;

/// What a fault does to an operation.
#[derive(Clone)]
pub(super) enum Effect {
    Fail(Code),
    FailAfter(Code),
    Ignore,
    ShortWrite(usize),
    PowerOff,
    ActBefore(PriorAct),
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Fail(code) => write!(f, "made to fail with {}", code.name()),
            Effect::FailAfter(code) => {
                write!(f, "took effect, made to report {}", code.name())
            }
            Effect::Ignore => f.write_str("silently ignored"),
            Effect::ShortWrite(most) => write!(f, "takes at most {most} bytes"),
            Effect::PowerOff => f.write_str("the power goes off"),
            Effect::ActBefore(_) => f.write_str("another process acted before it"),
        }
    }
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    Once,
    Alike,
    Everything,
}

/// Something that goes wrong: what, with which operation, and for how long.
///
/// Without further words it befalls the first operation of any kind that comes after
/// [`SimFs::inject`], once. Several faults may be injected; of those that befall one
/// operation, the first that was injected wins.
///
/// ```
/// use holdfast::error::Code;
/// use holdfast_sim::{Fault, OperationKind, SimFs};
///
/// let fs = SimFs::new();
/// // The second write from now on, and all that follow, find the disk full.
/// fs.inject(Fault::fail(Code::ENOSPC).at(2).of(OperationKind::Write).for_ever());
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    effect: Effect,
    at: u64,
    kind: Option<OperationKind>,
    path: Option<PathBuf>,
    span: Span,
    seen: u64,
    /// For [`Span::Alike`]: the kind of the operation that it first befell.
    befell: Option<OperationKind>,
}

impl Fault {
    fn new(effect: Effect) -> Fault {
        Fault { effect, at: 1, kind: None, path: None, span: Span::Once, seen: 0, befell: None }
    }

    /// The operation has no effect and reports `code`. A sync that fails so (unless
    /// it is interrupted or refused) also forgets what it did not write: see the module's page.
    pub fn fail(code: Code) -> Fault {
        Fault::new(Effect::Fail(code))
    }

    /// The operation takes effect, and reports `code` all the same, as network file
    /// systems do when an answer is lost.
    pub fn fail_after(code: Code) -> Fault {
        Fault::new(Effect::FailAfter(code))
    }

    /// The operation has no effect and reports success: the disk of a program that left
    /// it out. Operations that have an answer to give (metadata, a handle) are not
    /// affected.
    pub fn ignore() -> Fault {
        Fault::new(Effect::Ignore)
    }

    /// A write or a copy takes at most so many bytes. Other operations are not affected.
    pub fn short_write(most: usize) -> Fault {
        Fault::new(Effect::ShortWrite(most))
    }

    /// The power goes off before the operation: it and all that follow fail with `EIO`
    /// and have no effect. [`SimFs::crash_states`] then says what may be left.
    pub fn power_off() -> Fault {
        Fault::new(Effect::PowerOff)
    }

    /// Another process acts just before the operation, which then takes its course. The
    /// path is that of the file or directory that the operation is about to touch.
    pub fn intrude(act: impl Fn(&SimFs, &Path) + Send + Sync + 'static) -> Fault {
        Fault::new(Effect::ActBefore(Arc::new(act)))
    }

    /// Befalls the `number`th operation that it applies to, the first being 1.
    pub fn at(self, number: u64) -> Fault {
        Fault { at: number, ..self }
    }

    /// Applies to operations of this kind only.
    pub fn of(self, kind: OperationKind) -> Fault {
        Fault { kind: Some(kind), ..self }
    }

    /// Applies to operations on this path only.
    pub fn on(self, path: impl Into<PathBuf>) -> Fault {
        Fault { path: Some(path.into()), ..self }
    }

    /// Befalls every later operation that it applies to as well.
    pub fn for_ever(self) -> Fault {
        Fault { span: Span::Everything, ..self }
    }

    /// Befalls every later operation of the same kind as the first one as well.
    pub fn for_ever_alike(self) -> Fault {
        Fault { span: Span::Alike, ..self }
    }

    /// Counts an operation, and says whether the fault befalls it.
    fn befalls(&mut self, kind: OperationKind, path: &Path) -> bool {
        if self.kind.is_some_and(|only| only != kind)
            || self.path.as_ref().is_some_and(|only| only != path)
            || matches!(self.effect, Effect::ShortWrite(_))
                && !matches!(
                    kind,
                    OperationKind::Write | OperationKind::WriteAt | OperationKind::Copy
                )
        {
            return false;
        }
        self.seen += 1;
        let befalls = match self.span {
            Span::Once => self.seen == self.at,
            Span::Everything => self.seen >= self.at,
            Span::Alike => self.seen == self.at || self.seen > self.at && self.befell == Some(kind),
        };
        if befalls && self.befell.is_none() {
            self.befell = Some(kind);
        }
        befalls
    }
}

/// What befalls an operation; every fault counts it.
pub(super) fn judge(faults: &mut [Fault], kind: OperationKind, path: &Path) -> Option<Effect> {
    let mut verdict = None;
    for fault in faults {
        if fault.befalls(kind, path) && verdict.is_none() {
            verdict = Some(fault.effect.clone());
        }
    }
    verdict
}
