//! A tree is copied (`cp -a`) while a transaction in it is at each of its system calls, and at each
//! of those of its recovery; and once more when the process has been killed there. Each copy is
//! recovered before, after or beside the original, and has all of the transaction or nothing of
//! it, by itself. Nobody touches another tree than his own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use holdfast::recovery::ActionKind;
use holdfast::transaction::names;

use crate::linux::{NEW, OLD, recover, stop_and_kill_at};

/// A directory with a tree in it, `live`, and copies of that.
struct Place {
    dir: tempfile::TempDir,
}

type Tree = BTreeMap<PathBuf, Vec<u8>>;

impl Place {
    fn new(disk: &Path) -> Place {
        let place = Place { dir: tempfile::tempdir_in(disk).unwrap() };
        fs::create_dir_all(place.at("live/other")).unwrap();
        for file in ["live/state.json", "live/gone.json", "live/other/far.json"] {
            fs::write(place.at(file), OLD).unwrap();
        }
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn copy(&self, from: &str, to: &str) {
        let made = Command::new("cp").arg("-a").args([self.at(from), self.at(to)]).status();
        assert!(made.unwrap().success());
    }

    /// What the files of the transaction are in a tree, if all are as before or all as after it.
    fn version(&self, root: &str) -> Option<&'static str> {
        let read = |name: &str| fs::read_to_string(self.at(root).join(name)).ok();
        let all = ["state.json", "other/far.json", "gone.json", "other/made.json"].map(read);
        match all.each_ref().map(Option::as_deref) {
            [Some(OLD), Some(OLD), Some(OLD), None] => Some(OLD),
            [Some(NEW), Some(NEW), None, Some(NEW)] => Some(NEW),
            _ => None,
        }
    }

    fn tree(&self, root: &str) -> Tree {
        let mut tree = Tree::new();
        for dir in [self.at(root), self.at(root).join("other")] {
            for entry in fs::read_dir(&dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    let bytes = fs::read(&path).unwrap();
                    tree.insert(path, bytes);
                }
            }
        }
        tree
    }

    /// Recovers a tree, from its directory or from the one in it, and says what it has then. The
    /// others stay as they are.
    fn recover(&self, root: &str, from_other: bool, others: &[&str], how: &str) -> &'static str {
        let before: Vec<Tree> = others.iter().map(|other| self.tree(other)).collect();
        let mut dirs = [self.at(root), self.at(root).join("other")];
        if from_other {
            dirs.reverse();
        }
        let mut said = Vec::new();
        for dir in &dirs {
            said.extend(recover(dir).unwrap());
        }
        let complain = |what: &str| -> ! { panic!("{how}: {what} {root}\n{said:#?}") };
        let is_undone = |kind| matches!(kind, ActionKind::Failed | ActionKind::Left);
        if said.iter().any(|action| is_undone(action.kind)) {
            complain("it could not be settled in");
        }
        let is_left = |path: &PathBuf| names::is_transaction_name(path.file_name().unwrap());
        if self.tree(root).keys().any(is_left) {
            complain("something is left in");
        }
        let now: Vec<Tree> = others.iter().map(|other| self.tree(other)).collect();
        if now != before {
            complain("another tree was touched from");
        }
        self.version(root).unwrap_or_else(|| complain("neither all nor none in"))
    }

    /// Recovers what was copied of one directory only. Nothing outside of it is touched.
    fn recover_part(&self, how: &str) {
        fs::create_dir(self.at("part")).unwrap();
        self.copy("killed/other", "part/other");
        let before = self.tree("killed");
        let said = recover(&self.at("part/other")).unwrap();
        let read = |name: &str| fs::read_to_string(self.at("part/other").join(name)).ok();
        let all = ["far.json", "made.json"].map(read);
        match all.each_ref().map(Option::as_deref) {
            [Some(OLD), None] | [Some(NEW), Some(NEW)] => {}
            _ => panic!("{how}: neither all nor none in a part\n{said:#?}"),
        }
        let is_ours = |path: &PathBuf| names::is_transaction_name(path.file_name().unwrap());
        let is_left = self.tree("part").keys().any(is_ours);
        assert!(!is_left || said.iter().any(|action| action.is_undone), "{how}\n{said:#?}");
        assert!(self.tree("killed") == before, "{how}: the original was touched");
    }

    /// Stops at a call of `operation` in the tree, and copies it; kills the process there, and
    /// copies it once more; and recovers all. Returns how many trees that were, `None` if there was
    /// no such call.
    fn stop_at(&self, operation: &str, last: usize, must: Option<&str>) -> Option<usize> {
        let how = format!("{operation} at call {last}");
        let from_other = (last / 2).is_multiple_of(2);
        let mut seen = Vec::new();
        let is_stopped = stop_and_kill_at(operation, &self.at("live"), last, || {
            for copy in ["beside", "later"] {
                self.copy("live", copy);
            }
            // While the original is under way, and locked.
            seen.push(self.recover("beside", from_other, &["live", "later"], &how));
        });
        if !is_stopped {
            return None;
        }
        self.copy("live", "killed");
        // In turn the original is recovered before the copies, after them, and never.
        let order: &[&str] = match last / 3 % 3 {
            0 => &["live", "later", "killed"],
            1 => &["killed", "later", "live"],
            _ => {
                fs::remove_dir_all(self.at("live")).unwrap();
                &["later", "killed"]
            }
        };
        self.recover_part(&how);
        for root in order {
            let others: Vec<&str> = order.iter().copied().filter(|other| other != root).collect();
            seen.push(self.recover(root, !from_other, &others, &how));
        }
        // The process has done nothing between the copies.
        assert!(seen.iter().all(|version| *version == seen[0]), "{how}: {seen:?}");
        assert!(must.is_none_or(|must| seen[0] == must), "{how}: {seen:?}");
        Some(seen.len() + 1)
    }
}

/// Returns how many trees were recovered, and at how many calls.
pub(crate) fn walk(durability: &str, disk: &Path) -> (usize, usize) {
    // `npm run soak` stops at every call, the tests of every day at every third one.
    let step = if std::env::var_os("HOLDFAST_EVERY_CALL").is_some() { 1 } else { 3 };
    let operation = format!("transaction {durability}");
    let (mut copies, mut stops) = (0, 0);
    // The first call before which some files have changed and others have not.
    let mut halfway = None;
    for last in (1..).step_by(step) {
        let place = Place::new(disk);
        let killed = Place::new(disk);
        let Some(recovered) = place.stop_at(&operation, last, None) else { break };
        if halfway.is_none() {
            stop_and_kill_at(&operation, &killed.at("live"), last, || ());
            halfway = killed.version("live").is_none().then_some(last);
        }
        copies += recovered;
        stops += 1;
    }
    for last in (1..).step_by(step) {
        let place = Place::new(disk);
        assert!(stop_and_kill_at(&operation, &place.at("live"), halfway.unwrap(), || ()));
        assert_eq!(place.version("live"), None);
        let Some(recovered) = place.stop_at("sweep full", last, Some(NEW)) else { break };
        copies += recovered;
        stops += 1;
    }
    (copies, stops)
}
