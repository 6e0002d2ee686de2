//! Cases of atomic writes on a simulated disk, and what must be true of what they leave.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use holdfast::engine::WriteCaller;
use holdfast::error::Error;
use holdfast::fs::{FileKind, Metadata};
use holdfast::payload::Payload;
use holdfast::write::{Control, Durability, Observer, Options, Owner, WriteRequest, run};
use holdfast_sim::{Attributes, Fault, Model, OperationKind, SimFs};

/// Runs `act` between the steps of another operation, on a thread of its own as another process
/// would: it is no part of the other operation.
pub(crate) fn on_another_thread<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(act).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A caller that is sent the outcome of its write.
pub(crate) struct OutcomeSender(pub(crate) mpsc::Sender<Result<(), Error>>);

impl WriteCaller for OutcomeSender {
    fn start(&mut self, _: bool) -> bool {
        true
    }

    fn stop(&mut self) {}

    fn observer(&self) -> Option<&dyn Observer> {
        None
    }

    fn finish(&mut self, outcome: Result<(), Error>) {
        // The test may have failed.
        let _ = self.0.send(outcome);
    }
}

pub(crate) const OLD: &[u8] = b"old content, longer than the new one";
pub(crate) const NEW: &[u8] = b"new content";

/// More crash states than any moment of these cases has.
pub(crate) const MOST: usize = 20_000;

pub(crate) const DURABILITIES: [Durability; 3] =
    [Durability::None, Durability::File, Durability::Full];

/// One write, and the disk it starts from.
#[derive(Clone)]
pub(crate) struct WriteCase {
    pub(crate) name: &'static str,
    /// The path as the caller gives it.
    pub(crate) path: &'static str,
    /// The name that is replaced.
    pub(crate) target: &'static str,
    pub(crate) new: Vec<u8>,
    pub(crate) options: Options,
    /// What the new file must have.
    pub(crate) attributes: Attributes,
    /// The most bytes that the disk takes in one write.
    pub(crate) short: Option<usize>,
    /// Whether the disk says that it keeps metadata in order.
    pub(crate) keeps_order: bool,
    pub(crate) set: fn(&SimFs),
}

const OWN: Attributes = Attributes { mode: 0o644, uid: 1000, gid: 1000 };

impl WriteCase {
    fn new(name: &'static str, set: fn(&SimFs)) -> WriteCase {
        let options = Options { retry_delay: Duration::ZERO, ..Options::default() };
        WriteCase {
            name,
            path: "/dir/note",
            target: "/dir/note",
            new: NEW.to_vec(),
            options,
            attributes: OWN,
            short: None,
            keeps_order: false,
            set,
        }
    }

    /// The disk before the write. Beside the files of the case there is another one.
    pub(crate) fn disk(&self) -> SimFs {
        let fs = SimFs::new();
        fs.put_file("/dir/bystander", b"not yours").unwrap();
        (self.set)(&fs);
        fs.set_keeps_order(self.keeps_order);
        fs
    }

    pub(crate) fn request(&self, durability: Durability) -> WriteRequest {
        WriteRequest {
            path: self.path.into(),
            payload: Payload::Owned(self.new.clone()),
            options: Options { durability, ..self.options.clone() },
        }
    }

    /// Makes the disk take short writes only, where the case says so. Faults that are to
    /// befall writes must have been injected before.
    pub(crate) fn shorten_writes(&self, fs: &SimFs) {
        if let Some(most) = self.short {
            fs.inject(Fault::short_write(most).for_ever());
        }
    }

    /// The disk after a run that nothing disturbs.
    pub(crate) fn undisturbed(&self, durability: Durability) -> SimFs {
        let fs = self.disk();
        self.shorten_writes(&fs);
        write(&fs, &self.request(durability)).unwrap();
        fs
    }
}

pub(crate) fn write(fs: &SimFs, request: &WriteRequest) -> Result<(), Error> {
    run(fs, request, &Control::default(), None)
}

/// Puts another user's file where the new one is to be.
fn foreign(fs: &SimFs, mode: u32) {
    let attributes = Attributes { mode, uid: 2000, gid: 2001 };
    fs.put_file_with("/dir/note", OLD, attributes).unwrap();
}

/// Every case.
pub(crate) fn write_cases() -> Vec<WriteCase> {
    let empty = |_: &SimFs| {};
    let existing = |fs: &SimFs| fs.put_file("/dir/note", OLD).unwrap();
    let make_dirs = |case: WriteCase| WriteCase {
        options: Options { make_dirs: true, ..case.options },
        ..case
    };
    let mut write_cases = vec![
        WriteCase::new("a new file", empty),
        WriteCase {
            attributes: Attributes { mode: 0o600, ..OWN },
            ..WriteCase::new("a new file under a strict umask", |fs| fs.set_umask(0o077))
        },
        WriteCase::new("an existing file", existing),
        WriteCase {
            attributes: Attributes { mode: 0o600, uid: 2000, gid: 2001 },
            ..WriteCase::new("somebody's private file, written by root", |fs| {
                fs.set_user(0, 0);
                foreign(fs, 0o600);
            })
        },
        WriteCase {
            attributes: Attributes { mode: 0o600, ..OWN },
            ..WriteCase::new("somebody's private file, written by another", |fs| {
                foreign(fs, 0o600);
            })
        },
        WriteCase {
            attributes: Attributes { mode: 0o6755, uid: 2000, gid: 2001 },
            ..WriteCase::new("a program that runs as its owner, written by root", |fs| {
                fs.set_user(0, 0);
                foreign(fs, 0o6755);
            })
        },
        WriteCase {
            attributes: Attributes { mode: 0o755, ..OWN },
            ..WriteCase::new("a program that runs as its owner, written by another", |fs| {
                foreign(fs, 0o6755);
            })
        },
    ];
    let private = WriteCase::new("an existing file that becomes private", existing);
    write_cases.push(WriteCase {
        options: Options { mode: Some(0o400), ..private.options },
        attributes: Attributes { mode: 0o400, ..OWN },
        ..private
    });
    let open = WriteCase::new("a new file for everybody", empty);
    write_cases.push(WriteCase {
        options: Options { mode: Some(0o666), ..open.options },
        attributes: Attributes { mode: 0o666, ..OWN },
        ..open
    });
    let only = WriteCase::new("a new file that replaces none", empty);
    write_cases.push(WriteCase { options: Options { create_only: true, ..only.options }, ..only });
    let given = WriteCase::new("a new file given to somebody", |fs| fs.set_user(0, 0));
    write_cases.push(WriteCase {
        options: Options { owner: Owner::Set { uid: 2000, gid: 2001 }, ..given.options },
        attributes: Attributes { mode: 0o644, uid: 2000, gid: 2001 },
        ..given
    });
    write_cases.push(WriteCase {
        path: "/links/note",
        ..WriteCase::new("through a link to another folder", |fs| {
            fs.put_file("/dir/note", OLD).unwrap();
            fs.put_link("/links/note", "../dir/note").unwrap();
        })
    });
    write_cases.push(WriteCase {
        path: "/links/first",
        ..WriteCase::new("through two links, the last one dangling", |fs| {
            fs.put_link("/links/first", "second").unwrap();
            fs.put_link("/links/second", "/dir/note").unwrap();
        })
    });
    write_cases.push(WriteCase {
        path: "/linked/note",
        ..WriteCase::new("in a folder behind a link", |fs| {
            fs.put_file("/dir/note", OLD).unwrap();
            fs.put_link("/linked", "dir").unwrap();
        })
    });
    let replaced = WriteCase::new("in place of a link", |fs| {
        fs.put_link("/dir/note", "bystander").unwrap();
    });
    write_cases.push(WriteCase {
        options: Options { follow_symlinks: false, ..replaced.options },
        ..replaced
    });
    for (name, path) in [
        ("with one new folder", "/a/note"),
        ("with two new folders", "/a/b/note"),
        ("with three new folders", "/a/b/c/note"),
        ("with a new folder in an old one", "/dir/a/note"),
        ("with all folders there", "/dir/note"),
    ] {
        write_cases.push(make_dirs(WriteCase {
            path,
            target: path,
            ..WriteCase::new(name, empty)
        }));
    }
    // A directory that its users may not list cannot be opened to be synced.
    let dark = |fs: &SimFs| {
        let attributes = Attributes { mode: 0o333, uid: 1000, gid: 1000 };
        fs.put_dir_with("/dark", attributes).unwrap();
    };
    write_cases.push(WriteCase {
        path: "/dark/note",
        target: "/dark/note",
        ..WriteCase::new("in a folder that cannot be listed", dark)
    });
    write_cases.push(make_dirs(WriteCase {
        path: "/dark/a/note",
        target: "/dark/a/note",
        ..WriteCase::new("with a new folder in one that cannot be listed", dark)
    }));
    write_cases.push(WriteCase { new: Vec::new(), ..WriteCase::new("a new empty file", empty) });
    write_cases.push(WriteCase {
        new: Vec::new(),
        ..WriteCase::new("an existing file made empty", existing)
    });
    write_cases.push(WriteCase {
        short: Some(3),
        ..WriteCase::new("a new file on a disk that takes little at once", empty)
    });
    write_cases.push(WriteCase {
        short: Some(4),
        ..WriteCase::new("an existing file on a disk that takes little at once", existing)
    });
    write_cases
}

pub(crate) fn write_case(name: &str) -> WriteCase {
    write_cases().into_iter().find(|case| case.name == name).unwrap()
}

/// What a name stands for, in full.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct FileState {
    pub(crate) metadata: Metadata,
    pub(crate) content: Option<Arc<Vec<u8>>>,
}

/// What is at `path`, which may be nothing.
pub(crate) fn look(fs: &SimFs, path: impl AsRef<Path>) -> Option<FileState> {
    let mut metadata = fs.inspect_name(&path).ok()?;
    // Every simulated disk is a device of its own; files of two are compared here.
    metadata.id.device = 0;
    let content = match metadata.kind {
        FileKind::File => Some(fs.read_file(&path).unwrap()),
        _ => None,
    };
    Some(FileState { metadata, content })
}

/// What the target turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// What was there before, down to the file's number; nothing if there was none.
    Old,
    /// The new bytes in full, with the mode and the owner that they must have.
    New,
}

/// The promises of one write, checked against any disk that it may leave.
pub(crate) struct Promise<'a> {
    case: &'a WriteCase,
    old: Option<FileState>,
    before: Vec<(PathBuf, Option<FileState>)>,
    after: BTreeSet<PathBuf>,
}

impl<'a> Promise<'a> {
    pub(crate) fn new(case: &'a WriteCase) -> Promise<'a> {
        let disk = case.disk();
        let old = look(&disk, case.target);
        let before = disk
            .paths()
            .into_iter()
            .filter(|path| path != Path::new(case.target))
            .map(|path| {
                let seen = look(&disk, &path);
                (path, seen)
            })
            .collect();
        let after = case.undisturbed(Durability::Full).paths().into_iter().collect();
        Promise { case, old, before, after }
    }

    /// Old or new, or a complaint.
    pub(crate) fn version(&self, fs: &SimFs) -> Result<Version, String> {
        let seen = look(fs, self.case.target);
        if seen == self.old {
            return Ok(Version::Old);
        }
        let Some(seen) = seen else { return Err("the target is gone".to_owned()) };
        let Metadata { mode, uid, gid, .. } = seen.metadata;
        let attributes = Attributes { mode, uid, gid };
        if seen.content.as_deref() != Some(&self.case.new) {
            return Err("the target is neither the old file nor the new one".to_owned());
        }
        if attributes != self.case.attributes {
            return Err(format!("the new file has {attributes:?}"));
        }
        Ok(Version::New)
    }

    /// The temp files, after making sure that there is nothing else that should not be
    /// there, and that everything else is as it was.
    pub(crate) fn temps(&self, fs: &SimFs) -> Result<Vec<PathBuf>, String> {
        for (path, before) in &self.before {
            if look(fs, path) != *before {
                return Err(format!("{} has changed", path.display()));
            }
        }
        let is_known = |path: &PathBuf| {
            self.after.contains(path) || self.before.iter().any(|(before, _)| before == path)
        };
        let extra: Vec<PathBuf> = fs.paths().into_iter().filter(|path| !is_known(path)).collect();
        extra.iter().try_for_each(|path| self.check_temp(fs, path))?;
        Ok(extra)
    }

    /// A temp file has its proper name, and allows no user what the final one forbids.
    fn check_temp(&self, fs: &SimFs, path: &Path) -> Result<(), String> {
        let target = Path::new(self.case.target);
        let basename = target.file_name().unwrap().to_str().unwrap();
        let middle = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix(&format!(".{basename}.")))
            .and_then(|name| name.strip_suffix(".tmp"));
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if path.parent() != target.parent()
            || !middle.is_some_and(|hex| hex.len() == 16 && hex.chars().all(is_hex))
        {
            return Err(format!("what is {}?", path.display()));
        }
        let Metadata { mode, uid, gid, .. } = fs.inspect_name(path).unwrap();
        let wanted = self.case.attributes;
        if mode & !(wanted.mode | 0o600) != 0 {
            return Err(format!("{} is too open: {mode:o}", path.display()));
        }
        if mode & 0o6000 != 0 && (uid, gid) != (wanted.uid, wanted.gid) {
            return Err(format!("{} runs as another user", path.display()));
        }
        Ok(())
    }

    /// Checks every state that a power cut may leave now, and says which versions of the
    /// target are among them and how many states there are.
    pub(crate) fn after_power_cut(
        &self,
        fs: &SimFs,
        model: Model,
    ) -> Result<(BTreeSet<Version>, usize), String> {
        let states = fs.crash_states(model, MOST);
        let count = states.states.len();
        if !states.complete {
            return Err("there are more crash states than are looked at".to_owned());
        }
        let mut versions = BTreeSet::new();
        for state in states {
            let complain = |complaint: String| {
                format!("{complaint}\n{model:?}: {}\n{}", state.description, state.fs.describe())
            };
            versions.insert(self.version(&state.fs).map_err(complain)?);
            // Directories that were there are there; new ones may be lost with all in them.
            self.temps(&state.fs).map_err(complain)?;
        }
        Ok((versions, count))
    }
}

/// What a walk over the crash states of one case found.
#[derive(Default)]
pub(crate) struct WalkResult {
    pub(crate) moments: usize,
    pub(crate) states: usize,
    pub(crate) violations: Vec<String>,
}

impl WalkResult {
    pub(crate) fn add(&mut self, other: WalkResult) {
        self.moments += other.moments;
        self.states += other.states;
        self.violations.extend(other.violations);
    }

    /// Fails the test if anything was violated.
    pub(crate) fn assert_kept(&self) {
        if let Some(first) = self.violations.first() {
            panic!("{} violations, the first one:\n{first}", self.violations.len());
        }
    }
}

/// Takes the power away before every operation of a write, and after the last one, and
/// checks what is left, in memory and in every crash state of the given models.
///
/// `prepare` may spoil the disk; `run` makes the write.
pub(crate) fn walk(
    case: &WriteCase,
    durability: Durability,
    models: &[Model],
    prepare: &dyn Fn(&SimFs),
    run: &dyn Fn(&SimFs, &WriteRequest) -> Result<(), Error>,
) -> WalkResult {
    let promise = Promise::new(case);
    let mut walked = WalkResult::default();
    for moment in 1.. {
        let fs = case.disk();
        // The first fault that befalls an operation wins, and this one must not be lost.
        fs.inject(Fault::power_off().at(moment));
        prepare(&fs);
        case.shorten_writes(&fs);
        let outcome = run(&fs, &case.request(durability));
        let is_over = fs.count() < moment;
        walked.moments += 1;

        let mut complain = |complaint: String| {
            walked.violations.push(format!(
                "{} ({durability:?}), power off before operation {moment}: {complaint}\n\
                 the call: {outcome:?}\nin memory:\n{}\n{}",
                case.name,
                fs.describe(),
                fs.log_text()
            ));
        };
        if is_over && outcome.is_err() {
            complain("an undisturbed write failed".to_owned());
        }
        match promise.version(&fs) {
            Err(complaint) => complain(complaint),
            Ok(Version::Old) if outcome.is_ok() => complain("success, but nothing new".to_owned()),
            Ok(Version::New) if outcome.as_ref().is_err_and(|error| !error.committed) => {
                complain("an error, but the new file is there".to_owned());
            }
            Ok(_) => {}
        }
        match promise.temps(&fs) {
            Ok(temps) if temps.len() > 1 => complain(format!("too many temp files: {temps:?}")),
            Ok(temps) if is_over && !temps.is_empty() => complain(format!("left: {temps:?}")),
            Ok(_) => {}
            Err(complaint) => complain(complaint),
        }
        if fs.open_handles() != (0, 0) {
            complain(format!("open handles: {:?}", fs.open_handles()));
        }
        // Nothing is promised about power cuts without a sync.
        if durability != Durability::None {
            for model in models {
                match promise.after_power_cut(&fs, *model) {
                    Ok((versions, count)) => {
                        walked.states += count;
                        if outcome.is_ok()
                            && durability == Durability::Full
                            && versions != BTreeSet::from([Version::New])
                        {
                            complain(format!("acknowledged, but {model:?} may lose it"));
                        }
                    }
                    Err(complaint) => complain(complaint),
                }
            }
        }
        if is_over {
            break;
        }
    }
    walked
}

/// How often operations of this kind were asked for.
pub(crate) fn count_of(fs: &SimFs, kind: OperationKind) -> usize {
    fs.log().iter().filter(|performed| performed.kind == kind).count()
}
