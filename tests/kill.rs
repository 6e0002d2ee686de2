//! `SIGKILL` at every single system call of every operation, on the real kernel; then recovery,
//! and what was promised about the contents.
//!
//! The program starts itself anew for each kill, traces that process (`ptrace`), and kills it as
//! it is about to make its next call. Linux only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    match std::env::var(linux::OPERATION) {
        Ok(operation) => linux::victim(&operation),
        Err(_) => linux::all(),
    }
}

#[cfg(target_os = "linux")]
#[path = "kill/copies.rs"]
mod copies;

#[cfg(target_os = "linux")]
mod linux {
    use std::any::Any;
    use std::collections::BTreeMap;
    use std::fs;
    use std::io;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::time::{Duration, SystemTime};

    use holdfast::backup::{self, BackupRequest, RestoreRequest, Retention, Reuse};
    use holdfast::error::ErrorKind;
    use holdfast::fs::os::Os;
    use holdfast::json_update;
    use holdfast::payload::Payload;
    use holdfast::recovery::{self, ActionKind};
    use holdfast::transaction::{self, Change, FileChange, names};
    use holdfast::write::{self, Control, Durability, Options, Stream, WriteRequest};

    /// What the process that is to be killed does, and where.
    pub(crate) const OPERATION: &str = "HOLDFAST_KILL_OPERATION";
    const FOLDER: &str = "HOLDFAST_KILL_FOLDER";

    pub(crate) const OLD: &str = "{\"version\": \"old\"}";
    pub(crate) const NEW: &str = "{\"version\": \"new\", \"and\": \"longer\"}";
    const TORN: &str = "{\"version\": \"torn";
    const TEMP: &str = ".state.json.0123456789abcdef.tmp";
    const UUID: &str = ".other.json.123e4567-e89b-12d3-a456-426614174000.tmp";

    // ── The victim ────────────────────────────────────────────────────────────────────────

    /// A call that nothing else makes here, for the tracer to tell where the operation begins
    /// and ends.
    fn mark() {
        let _ = std::os::unix::process::parent_id();
    }

    pub(crate) fn victim(operation: &str) {
        let dir = PathBuf::from(std::env::var_os(FOLDER).unwrap());
        let (what, durability) = operation.split_once(' ').unwrap();
        let durability = match durability {
            "none" => Durability::None,
            "file" => Durability::File,
            _ => Durability::Full,
        };
        let options = Options { durability, attempts: 1, ..Options::default() };
        let file = dir.join("state.json");
        let control = Control::default();
        let write = |options: Options| {
            let payload = Payload::Owned(NEW.as_bytes().to_vec());
            let request = WriteRequest { path: file.clone(), payload, options };
            write::run(&Os, &request, &control, None).unwrap();
        };
        mark();
        match what {
            "write" => write(options),
            "private" => write(Options { mode: Some(0o400), ..options }),
            "folders" => {
                let path = dir.join("a/b/state.json");
                let payload = Payload::Owned(NEW.as_bytes().to_vec());
                let options = Options { make_dirs: true, ..options };
                write::run(&Os, &WriteRequest { path, payload, options }, &control, None).unwrap();
            }
            "update" => {
                assert_eq!(json_update::read(&Os, &file, true).unwrap().as_deref(), Some(OLD));
                write(options);
            }
            "stream" => {
                let mut stream = Stream::open(Os, file, options, &control, None).unwrap();
                let (front, back) = NEW.split_at(7);
                for piece in [front, back] {
                    let payload = Payload::Owned(piece.as_bytes().to_vec());
                    stream.write(&payload, &control, None).unwrap();
                }
                stream.commit(&control, None).unwrap();
            }
            "backup" => {
                let create = BackupRequest {
                    path: file,
                    time: 7,
                    options,
                    reuse: Reuse::default(),
                    keep: Some(Retention::newest(1)),
                };
                backup::create(&Os, &create, &control, None).unwrap();
            }
            "restore" => {
                let backup = dir.join("state.json.1.backup");
                let restore = RestoreRequest { backup, target: file, options };
                backup::restore(&Os, &restore, &control, None).unwrap();
            }
            "transaction" => {
                let change =
                    |name: &str, change| FileChange { path: dir.join(name), change, only: None };
                let write = || Change::Write(Payload::Owned(NEW.as_bytes().to_vec()));
                let parts = [
                    change("state.json", write()),
                    change("gone.json", Change::Remove),
                    change("other/far.json", write()),
                    change("other/made.json", write()),
                ];
                transaction::commit(&Os, &file, &parts, &options, &control).unwrap();
            }
            "recover" => drop(recover(&file).unwrap()),
            "sweep" => drop(recover(&dir).unwrap()),
            other => panic!("{other}?"),
        }
        mark();
    }

    pub(crate) fn recover(path: &Path) -> Result<Vec<recovery::RecoveryAction>, ErrorKind> {
        let options = recovery::Options {
            min_age: Duration::ZERO,
            promote: Some(true),
            legacy: true,
            recursive: true,
            ..recovery::Options::default()
        };
        let request =
            recovery::RecoveryRequest { path: path.into(), options, now: SystemTime::now() };
        let free = |_: &Path| -> Result<Option<Box<dyn Any>>, ErrorKind> { Ok(Some(Box::new(()))) };
        recovery::recover(&Os, &request, &free, &Control::default())
    }

    // ── The killer ────────────────────────────────────────────────────────────────────────

    fn check(result: libc::c_long) -> libc::c_long {
        assert!(result >= 0, "ptrace: {}", io::Error::last_os_error());
        result
    }

    fn let_be_traced(command: &mut Command) -> &mut Command {
        // SAFETY: the closure only makes a system call, which may be made between fork and exec.
        unsafe {
            command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            })
        }
    }

    /// Some sandboxes forbid it.
    fn may_trace() -> bool {
        let Ok(mut child) = let_be_traced(&mut Command::new("/bin/true")).spawn() else {
            return false;
        };
        child.kill().unwrap();
        child.wait().is_ok()
    }

    /// Runs the operation in a process of its own, and kills that as it is about to make its
    /// `last`th system call. Says whether it came that far.
    fn kill_at(operation: &str, dir: &Path, last: usize) -> bool {
        stop_and_kill_at(operation, dir, last, || ())
    }

    /// The same; before it is killed, `while_stopped` is called.
    #[allow(clippy::zombie_processes, reason = "it is waited for by its number")]
    pub(crate) fn stop_and_kill_at(
        operation: &str,
        dir: &Path,
        last: usize,
        while_stopped: impl FnOnce(),
    ) -> bool {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env_clear().env(OPERATION, operation).env(FOLDER, dir);
        let mut child = let_be_traced(&mut command).spawn().unwrap();
        let pid = libc::pid_t::try_from(child.id()).unwrap();
        let wait = || {
            let mut status = 0;
            // SAFETY: the place for the status is there during the call.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            status
        };
        let resume = |signal: libc::c_int| {
            // SAFETY: this request takes numbers only.
            check(unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, 0, libc::c_long::from(signal)) })
        };
        assert!(libc::WIFSTOPPED(wait()), "it stops at exec");
        let wanted = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        // SAFETY: as above.
        check(unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, libc::c_long::from(wanted)) });
        let (mut is_entry, mut is_begun, mut count) = (false, false, 0);
        resume(0);
        loop {
            let status = wait();
            if libc::WIFEXITED(status) {
                assert_eq!(libc::WEXITSTATUS(status), 0, "{operation} has failed");
                return false;
            }
            assert!(libc::WIFSTOPPED(status), "{operation}: {status}");
            if libc::WSTOPSIG(status) != libc::SIGTRAP | 0x80 {
                resume(libc::WSTOPSIG(status));
                continue;
            }
            is_entry = !is_entry;
            if is_entry && is_mark(pid) {
                if is_begun {
                    // The operation is over: it ends as any process does.
                    is_begun = false;
                    count = usize::MAX;
                } else if count == 0 {
                    is_begun = true;
                }
            } else if is_entry && is_begun {
                count += 1;
                if count == last {
                    while_stopped();
                    child.kill().unwrap();
                    assert!(libc::WIFSIGNALED(wait()));
                    return true;
                }
            }
            resume(0);
        }
    }

    /// Whether the call that a stopped process is about to make is the mark.
    fn is_mark(pid: libc::pid_t) -> bool {
        let line = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
        line.split(' ').next() == Some(&libc::SYS_getppid.to_string())
    }

    // ── What must be true ─────────────────────────────────────────────────────────────────

    type Files = BTreeMap<String, String>;

    fn read(dir: &Path) -> Files {
        let mut files = Files::new();
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                let name = entry.file_name().into_string().unwrap();
                files.insert(
                    name,
                    String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned(),
                );
            }
        }
        files
    }

    fn aside(files: &Files, file: &str) -> Vec<String> {
        let prefix = format!("{file}.corrupt-");
        files
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix))
            .map(|(_, text)| text.clone())
            .collect()
    }

    /// What is there before, and what has to be there in the end; `None` for no file.
    struct Scene {
        what: &'static str,
        before: &'static [(&'static str, &'static str)],
        check: fn(&Files) -> bool,
    }

    fn is_old_or_new(files: &Files) -> bool {
        files.get("state.json").is_some_and(|text| text == OLD || text == NEW)
    }

    const SCENES: &[Scene] = &[
        Scene { what: "write", before: &[("state.json", OLD)], check: is_old_or_new },
        Scene { what: "private", before: &[("state.json", OLD)], check: is_old_or_new },
        Scene { what: "folders", before: &[("state.json", OLD)], check: is_old_or_new },
        Scene { what: "update", before: &[("state.json", OLD)], check: is_old_or_new },
        Scene { what: "stream", before: &[("state.json", OLD)], check: is_old_or_new },
        Scene {
            what: "backup",
            before: &[("state.json", OLD), ("state.json.1.backup", NEW)],
            check: |files| {
                let is_whole = |name: &str, text| files.get(name).is_none_or(|found| found == text);
                files["state.json"] == OLD
                    && is_whole("state.json.7.backup", OLD)
                    && is_whole("state.json.1.backup", NEW)
                    && files.len() > 1
            },
        },
        Scene {
            what: "restore",
            before: &[("state.json", OLD), ("state.json.1.backup", NEW)],
            check: |files| is_old_or_new(files) && files["state.json.1.backup"] == NEW,
        },
        Scene {
            what: "recover",
            before: &[("state.json", TORN), (TEMP, NEW), ("state.json.bak", TORN)],
            check: |files| {
                files["state.json"] == NEW
                    && aside(files, "state.json") == [TORN]
                    && files.len() == 2
            },
        },
        Scene {
            what: "sweep",
            before: &[
                ("state.json.bak", OLD),
                (UUID, NEW),
                ("third.json", TORN),
                (".third.json.0123456789abcdef.tmp", NEW),
                (".gone.0123456789abcdef.tmp", ""),
                ("good.json", NEW),
                ("good.json.tmp", OLD),
                ("good.json.bak", OLD),
            ],
            check: |files| {
                let names: Vec<&str> = files.keys().map(String::as_str).collect();
                let is_aside =
                    names.get(4).is_some_and(|name| name.starts_with("third.json.corrupt-"));
                names.len() == 5
                    && names[..4] == ["good.json", "other.json", "state.json", "third.json"]
                    && is_aside
                    && (files["state.json"] == OLD && files["other.json"] == NEW)
                    && (files["good.json"] == NEW && files["third.json"] == NEW)
                    && aside(files, "third.json") == [TORN]
            },
        },
    ];

    pub(crate) fn all() {
        // Memory, and whatever disk there is: their file systems take different ways.
        let disks = ["/dev/shm", "/var/tmp"].map(PathBuf::from);
        let disks: Vec<&PathBuf> = disks.iter().filter(|disk| disk.is_dir()).collect();
        if !may_trace() {
            return println!("skipped: processes may not be traced here");
        }
        let (mut kills, mut leftovers) = (0, 0);
        for scene in SCENES {
            for durability in ["none", "full"] {
                let operation = format!("{} {durability}", scene.what);
                if durability == "none" && matches!(scene.what, "recover" | "sweep") {
                    continue;
                }
                for disk in &disks {
                    if durability == "none" && disk.starts_with("/var") {
                        continue;
                    }
                    let (killed, left) = walk(scene, &operation, disk);
                    kills += killed;
                    leftovers += left;
                    println!(
                        "{operation} on {}: {killed} kills, {left} temp files left",
                        disk.display()
                    );
                }
            }
        }
        let disk = |number: usize| disks[number % disks.len()];
        for (durability, home, other) in
            [("none", disk(0), disk(0)), ("full", disk(0), disk(1)), ("full", disk(1), disk(0))]
        {
            let (killed, left) = walk_transaction(durability, home, other);
            kills += killed;
            leftovers += left;
            println!(
                "transaction {durability} on {} and {}, and its recovery: {killed} kills, {left} \
                 times something left",
                home.display(),
                other.display()
            );
        }
        for (durability, disk) in [("none", disk(0)), ("full", disk(1))] {
            let (copied, stops) = crate::copies::walk(durability, disk);
            println!(
                "transaction {durability} on {}, copied at {stops} calls of it and of its \
                 recovery: {copied} copies recovered",
                disk.display()
            );
        }
        println!("{kills} kills in all, {leftovers} temp files left and recovered");
        assert!(kills > 300, "{kills}");
    }

    fn walk(scene: &Scene, operation: &str, disk: &Path) -> (usize, usize) {
        let mut leftovers = 0;
        for last in 1.. {
            let dir = tempfile::tempdir_in(disk).unwrap();
            let dir = dir.path();
            for (name, text) in scene.before {
                fs::write(dir.join(name), text).unwrap();
                fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o640)).unwrap();
            }
            let is_killed = kill_at(operation, dir, last);
            let complain =
                |what: &str| panic!("{operation} killed at call {last}: {what}\n{:#?}", read(dir));
            let is_temp = |name: &String| holdfast::temp_name::is_temp_name(name.as_ref());
            leftovers += read(dir).keys().filter(|name| is_temp(name)).count();

            let actions = recover(dir).unwrap();
            if actions.iter().any(|action| action.kind == ActionKind::Failed) {
                complain(&format!("{actions:?}"));
            }
            let files = read(dir);
            if files.keys().any(is_temp) {
                complain("a temp file is left");
            }
            if !(scene.check)(&files) {
                complain("the contents are not as they should be");
            }
            if !is_killed
                && !matches!(scene.what, "backup" | "folders" | "sweep")
                && files["state.json"] != NEW
            {
                complain("it was acknowledged");
            }
            let below = dir.join("a/b/state.json");
            let made = below.parent().unwrap();
            if made.is_dir() && read(made).keys().any(is_temp) {
                complain("a temp file is left in the new folders");
            }
            if scene.what == "folders"
                && fs::read_to_string(below).map_or(!is_killed, |text| text != NEW)
            {
                complain("the file in the new folders");
            }
            let again = recover(dir).unwrap();
            if again.iter().any(|action| action.kind != ActionKind::Left) {
                complain(&format!("not idempotent: {again:?}"));
            }
            if !is_killed {
                return (last - 1, leftovers);
            }
        }
        unreachable!()
    }

    /// Two directories on two disks, the second one in the first by a link.
    struct Dirs {
        home: tempfile::TempDir,
        other: tempfile::TempDir,
    }

    impl Dirs {
        fn new(home: &Path, other: &Path) -> Dirs {
            let dirs = Dirs {
                home: tempfile::tempdir_in(home).unwrap(),
                other: tempfile::tempdir_in(other).unwrap(),
            };
            let (home, other) = (dirs.home.path(), dirs.other.path());
            std::os::unix::fs::symlink(other, home.join("other")).unwrap();
            for file in [home.join("state.json"), home.join("gone.json"), other.join("far.json")] {
                fs::write(file, OLD).unwrap();
            }
            dirs
        }

        /// What the files of the transaction are, if that is all they have become or all they
        /// were.
        fn version(&self) -> Option<&'static str> {
            let read = |name: &str| fs::read_to_string(self.home.path().join(name)).ok();
            let all = ["state.json", "other/far.json", "gone.json", "other/made.json"].map(read);
            match all.each_ref().map(Option::as_deref) {
                [Some(OLD), Some(OLD), Some(OLD), None] => Some(OLD),
                [Some(NEW), Some(NEW), None, Some(NEW)] => Some(NEW),
                _ => None,
            }
        }

        fn leftovers(&self) -> Vec<String> {
            let all = [self.home.path(), self.other.path()].map(|dir| read(dir).into_keys());
            let is_left = |name: &String| names::is_transaction_name(name.as_ref());
            all.into_iter().flatten().filter(is_left).collect()
        }

        /// Recovers from one of the directories, and says what there is then.
        fn recovered(&self, from_other: bool) -> &'static str {
            let from = if from_other { &self.other } else { &self.home };
            let actions = recover(from.path()).unwrap();
            let complain = |what: &str| -> ! {
                panic!(
                    "{what}: {actions:?}\n{:#?}{:#?}",
                    read(self.home.path()),
                    read(self.other.path())
                )
            };
            if actions
                .iter()
                .any(|action| matches!(action.kind, ActionKind::Failed | ActionKind::Left))
            {
                complain("it could not be settled");
            }
            // Where the other directory has no record yet, or none any more, it is settled for itself.
            for dir in [&self.home, &self.other] {
                recover(dir.path()).unwrap();
            }
            if !self.leftovers().is_empty() {
                complain("something is left");
            }
            self.version().unwrap_or_else(|| complain("neither all nor none"))
        }
    }

    fn walk_transaction(durability: &str, home: &Path, other: &Path) -> (usize, usize) {
        let operation = format!("transaction {durability}");
        let (mut kills, mut leftovers) = (0, 0);
        // The first kill after which some files have changed and others have not.
        let mut halfway = None;
        for last in 1.. {
            let dirs = Dirs::new(home, other);
            let is_killed = kill_at(&operation, dirs.home.path(), last);
            leftovers += usize::from(!dirs.leftovers().is_empty());
            if dirs.version().is_none() {
                halfway = halfway.or(Some(last));
            }
            let version = dirs.recovered(last % 2 == 0);
            if !is_killed {
                assert_eq!(version, NEW, "it was acknowledged");
                break;
            }
            kills += 1;
        }
        let halfway = halfway.unwrap();
        for last in 1.. {
            let dirs = Dirs::new(home, other);
            assert!(kill_at(&operation, dirs.home.path(), halfway));
            assert_eq!(dirs.version(), None);
            let is_killed = kill_at("sweep full", dirs.home.path(), last);
            assert_eq!(dirs.recovered(last % 2 == 0), NEW, "it was decided");
            if !is_killed {
                return (kills, leftovers);
            }
            kills += 1;
        }
        unreachable!()
    }
}
