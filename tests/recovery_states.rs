//! Every operation is cut off at every moment, on a disk left in every state, or fails in every
//! step; then it is recovered, by a recovery that is itself cut off at every moment and run
//! again. What must be true of the contents in the end is checked each time.
//!
//! For what is in the directory before a recovery and after it:
//!
//! - a good file stays as it is, byte for byte;
//! - where it is missing or corrupt and something whole is left, it is that afterwards;
//! - a corrupt file is not lost: it is where it was, or aside;
//! - no temp file is left, and nothing else is touched.
//!
//! And for each operation what it had promised. The numbers that these tests print are quoted in
//! `docs/guarantees.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, SystemTime};

use holdfast::backup::{self, BackupRequest, RestoreRequest, Retention, Reuse};
use holdfast::engine::Engine;
use holdfast::error::Code;
use holdfast::error::ErrorKind;
use holdfast::fs::{DirUse, FileSystem};
use holdfast::json_update;
use holdfast::payload::{Chunk, Payload};
use holdfast::recovery::{self, ActionKind, RecoveryAction};
use holdfast::temp_name;
use holdfast::threads::Pool;
use holdfast::write::{self, Control, Durability, Format, Options, Stream, WriteRequest};
use holdfast_sim::{Fault, Model, OperationKind, SimFs};

use common::{MOST, OutcomeSender, count_of};

const FILE: &str = "/dir/state.json";
const OLD: &[u8] = b"{\"turn\": 1, \"text\": \"the old one\"}";
const NEW: &[u8] = b"{\"turn\": 2}";
const TORN: &[u8] = b"{\"turn\": 3, \"te";
const BYSTANDERS: [(&str, &[u8]); 3] = [
    ("/dir/bystander.json", b"{not yours"),
    ("/dir/other.json.bak", b"{}"),
    ("/dir/.state.json.0123456789abcdef.txn", b"{}"),
];
const NOW: u64 = 1_700_000_000_000;

// ── Recovering ────────────────────────────────────────────────────────────────────────────

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The file is named.
    Named,
    /// Its directory is, with everything that may be done there.
    DirHandle,
}

type Taken = Result<Option<Box<dyn Any>>, ErrorKind>;

fn recover(fs: &SimFs, way: Way) -> Result<Vec<RecoveryAction>, ErrorKind> {
    recover_with(fs, way, false)
}

fn recover_with(fs: &SimFs, way: Way, backups: bool) -> Result<Vec<RecoveryAction>, ErrorKind> {
    let min_age = Duration::ZERO;
    let default = recovery::Options { min_age, backups, ..recovery::Options::default() };
    let (path, options) = match way {
        Way::Named => (FILE, default),
        Way::DirHandle => ("/dir", recovery::Options { promote: Some(true), ..default }),
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(NOW);
    let request = recovery::RecoveryRequest { path: path.into(), options, now };
    let free = |_: &Path| -> Taken { Ok(Some(Box::new(()))) };
    recovery::recover(fs, &request, &free, &Control::default())
}

// ── What is on a disk ─────────────────────────────────────────────────────────────────────

/// The files by name, the random part of temp names left out.
type Contents = BTreeMap<String, Vec<u8>>;

fn contents(fs: &SimFs) -> Contents {
    let mut found = Contents::new();
    for name in fs.list("/dir").unwrap() {
        let bytes = fs.read_file(Path::new("/dir").join(&name)).unwrap().to_vec();
        let mut shown = match temp_name::parse(&name) {
            Some(parsed) => format!(".{}.#.tmp", parsed.basename.to_str().unwrap()),
            None => name.into_string().unwrap(),
        };
        while found.contains_key(&shown) {
            shown.push('\'');
        }
        found.insert(shown, bytes);
    }
    found
}

fn is_json(bytes: &[u8]) -> bool {
    write::validate_bytes(bytes, Format::Json).is_ok()
}

fn is_whole(bytes: &[u8]) -> bool {
    is_json(bytes) && matches!(bytes.first(), Some(b'{' | b'['))
}

fn is_temp(name: &str) -> bool {
    name.starts_with(".state.json.#.tmp")
}

/// What may become the file.
fn whole_remains(before: &Contents, way: Way) -> Vec<&Vec<u8>> {
    let is_source = |name: &str, bytes: &[u8]| match name {
        "state.json.tmp" => way == Way::Named && is_whole(bytes),
        "state.json.bak" => way == Way::Named && is_json(bytes),
        name => is_temp(name) && is_whole(bytes),
    };
    before.iter().filter(|(name, bytes)| is_source(name, bytes)).map(|(_, bytes)| bytes).collect()
}

/// Compares what was there before a recovery with what is there after it.
fn check_recovered(before: &Contents, after: &Contents, way: Way) -> Result<(), String> {
    let file = |contents: &Contents| contents.get("state.json").cloned();
    let (old, new) = (file(before), file(after));
    let sources = whole_remains(before, way);
    match &old {
        Some(old) if is_json(old) => {
            if new.as_ref() != Some(old) {
                return Err("a good file was changed".to_owned());
            }
        }
        _ if !sources.is_empty() => {
            if !new.as_ref().is_some_and(|new| sources.contains(&new)) {
                return Err("something whole was left, and the file is not that".to_owned());
            }
        }
        None => {
            let backup = before.get("state.json.bak").filter(|_| way == Way::Named);
            if new.as_ref() != backup {
                return Err("where does the file come from?".to_owned());
            }
        }
        Some(_) if new != old => return Err("a corrupt file was changed for nothing".to_owned()),
        Some(_) => {}
    }
    if let Some(corrupt) = old.filter(|old| !is_json(old) && new.as_ref() != Some(old)) {
        let is_aside = |(name, bytes): (&String, &Vec<u8>)| {
            name.starts_with("state.json.corrupt-") && *bytes == corrupt
        };
        if !after.iter().any(is_aside) {
            return Err("the corrupt file is lost".to_owned());
        }
    }
    for (path, bytes) in BYSTANDERS {
        let name = path.strip_prefix("/dir/").unwrap();
        if after.get(name).map(Vec::as_slice) != Some(bytes) {
            return Err(format!("{path} was touched"));
        }
    }
    let leftover =
        |name: &&String| is_temp(name) || way == Way::Named && name.as_str() == "state.json.tmp";
    match after.keys().find(leftover) {
        Some(name) => Err(format!("{name} is left")),
        None => Ok(()),
    }
}

// ── The walk ──────────────────────────────────────────────────────────────────────────────

/// What the walks have seen.
#[derive(Default)]
struct Tally {
    /// Moments at which the operation was cut off, or steps that failed.
    moments: usize,
    /// States in which it left the disk.
    states: usize,
    /// Of these, those that differ in what a recovery can see.
    different: usize,
    /// Recoveries that were cut off.
    cut: usize,
    /// States in which these left the disk, each of which was recovered again.
    again: usize,
    complaints: Vec<String>,
}

impl Tally {
    fn print(&self, what: &str) {
        let Tally { moments, states, different, cut, again, .. } = self;
        println!(
            "{what}: {moments} moments, {states} states ({different} different), {cut} recoveries cut off, {again} states recovered again"
        );
    }

    fn assert_none(&self) {
        if let Some(first) = self.complaints.first() {
            panic!("{} complaints, the first one:\n{first}", self.complaints.len());
        }
    }
}

/// A promise about the contents, after a recovery: given whether the operation was acknowledged.
type Promise = dyn Fn(&Contents, bool) -> Result<(), String>;

/// Recovers a disk as it was left, and recovers it again after cutting that off at every
/// moment. Of a disk that still has something in memory (a process was killed) the recovery is
/// only killed, too: what was never synced may be lost by a power cut, and the recovery is
/// not to blame.
struct Recoverer<'a> {
    way: Way,
    promise: &'a Promise,
    spoil: &'a dyn Fn(&SimFs),
    /// Whether a power cut leaves no torn file of what a killed process had done.
    never_torn: bool,
    seen: HashSet<(Contents, bool)>,
    seen_again: HashSet<(Contents, Contents, bool)>,
    /// Where not every recovery is cut off, but one of each kind: what kinds there were.
    kinds: Option<HashSet<(Kinds, bool, bool)>>,
    tally: Tally,
}

/// As much of a file's bytes as a recovery looks at.
type Kind = (bool, bool, bool);

type Kinds = Vec<(String, Kind)>;

fn kinds(contents: &Contents) -> Kinds {
    let kind = |bytes: &[u8]| (bytes.is_empty(), is_json(bytes), is_whole(bytes));
    contents.iter().map(|(name, bytes)| (name.clone(), kind(bytes))).collect()
}

impl Recoverer<'_> {
    fn complain(&mut self, complaint: String, how: &str, fs: &SimFs) {
        self.tally.complaints.push(format!(
            "{:?}: {complaint}\n{how}\n{}\n{}",
            self.way,
            fs.describe(),
            fs.log_text()
        ));
    }

    fn check(
        &mut self,
        before: &Contents,
        is_acknowledged: bool,
        fs: &SimFs,
        how: &dyn Fn() -> String,
    ) {
        let after = contents(fs);
        let checked = check_recovered(before, &after, self.way)
            .and_then(|()| (self.promise)(&after, is_acknowledged));
        if let Err(complaint) = checked {
            self.complain(complaint, &how(), fs);
        }
        if fs.open_handles() != (0, 0) {
            self.complain("open handles".to_owned(), &how(), fs);
        }
    }

    fn state(
        &mut self,
        left: &SimFs,
        is_acknowledged: bool,
        is_cut: bool,
        how: &dyn Fn() -> String,
    ) {
        self.tally.states += 1;
        let before = contents(left);
        if is_cut && !self.seen.insert((before.clone(), is_acknowledged)) {
            return;
        }
        self.tally.different += 1;

        // Undisturbed.
        let fs = left.after_kill();
        (self.spoil)(&fs);
        let actions = recover(&fs, self.way).unwrap();
        if let Some(failed) = actions.iter().find(|action| action.kind == ActionKind::Failed) {
            self.complain(format!("{failed:?}"), &how(), &fs);
        }
        self.check(&before, is_acknowledged, &fs, how);
        let operations = fs.count();
        // What has become the file is durable now, whatever it was before.
        let is_new = |action: &&RecoveryAction| {
            matches!(action.kind, ActionKind::Promoted | ActionKind::Restored)
        };
        let file = fs.read_file(FILE).ok();
        if let Some(action) = actions.iter().find(is_new) {
            for model in Model::ALL {
                for state in fs.crash_states(*model, MOST) {
                    if state.fs.read_file(FILE).ok() != file {
                        let how = format!("{}\nthen {model:?}: {}", how(), state.description);
                        self.complain(format!("not durable: {action:?}"), &how, &fs);
                    }
                }
            }
        }
        // There is nothing left to do.
        let after = contents(&fs);
        let more = recover(&fs, self.way).unwrap();
        if more.iter().any(|action| action.kind != ActionKind::Left) || contents(&fs) != after {
            self.complain(format!("not idempotent: {more:?}"), &how(), &fs);
        }

        if let Some(seen) = &mut self.kinds
            && !seen.insert((kinds(&before), is_acknowledged, is_cut))
        {
            return;
        }
        // Cut off at every moment.
        for moment in 1..=operations {
            let fs = left.after_kill();
            fs.inject(Fault::power_off().at(moment));
            (self.spoil)(&fs);
            let _ = recover(&fs, self.way);
            self.tally.cut += 1;
            let killed = fs.after_kill();
            self.again(&before, is_acknowledged, &killed, &|| {
                format!("{}\nthen the recovery killed at {moment}\n{}", how(), fs.log_text())
            });
            // What was never synced may be lost by a power cut, but what a recovery has made the
            // file is whole.
            if !is_cut && self.never_torn {
                for state in Model::ALL.iter().flat_map(|model| fs.crash_states(*model, MOST)) {
                    if state.fs.read_file(FILE).is_ok_and(|bytes| !is_json(&bytes)) {
                        let how = format!("{}\nthen cut at {moment}: {}", how(), state.description);
                        self.complain("the file is torn".to_owned(), &how, &fs);
                    }
                }
            }
            for model in Model::ALL.iter().filter(|_| is_cut) {
                let states = fs.crash_states(*model, MOST);
                assert!(states.complete);
                for state in states {
                    self.again(&before, is_acknowledged, &state.fs, &|| {
                        let description = &state.description;
                        format!(
                            "{}\nthen the recovery cut at {moment}, {model:?}: {description}\n{}",
                            how(),
                            fs.log_text()
                        )
                    });
                }
            }
        }
    }

    fn again(
        &mut self,
        before: &Contents,
        is_acknowledged: bool,
        left: &SimFs,
        how: &dyn Fn() -> String,
    ) {
        self.tally.again += 1;
        if !self.seen_again.insert((before.clone(), contents(left), is_acknowledged)) {
            return;
        }
        let fs = left.after_kill();
        (self.spoil)(&fs);
        recover(&fs, self.way).unwrap();
        self.check(before, is_acknowledged, &fs, how);
    }
}

/// An operation, the disk it starts from, and what it promises.
struct Play {
    name: String,
    set: Box<dyn Fn() -> SimFs>,
    /// Says whether it was acknowledged.
    run: Box<dyn Fn(&SimFs) -> bool>,
    /// Whether a power cut leaves something that was promised.
    survives_power_cut: bool,
    /// What is taken for granted about the disk.
    models: &'static [Model],
    /// Whether it syncs what it writes.
    is_synced: bool,
    promise: Box<Promise>,
}

fn disk(file: Option<&[u8]>) -> SimFs {
    let fs = SimFs::new();
    for (path, bytes) in BYSTANDERS {
        fs.put_file(path, bytes).unwrap();
    }
    if let Some(bytes) = file {
        fs.put_file(FILE, bytes).unwrap();
    }
    fs
}

impl Play {
    fn recoverer<'a>(&'a self, way: Way, spoil: &'a dyn Fn(&SimFs)) -> Recoverer<'a> {
        Recoverer {
            way,
            promise: &*self.promise,
            spoil,
            never_torn: self.survives_power_cut && self.models == Model::ALL && self.is_synced,
            seen: HashSet::new(),
            seen_again: HashSet::new(),
            kinds: None,
            tally: Tally::default(),
        }
    }

    fn look_at(
        &self,
        recoverer: &mut Recoverer<'_>,
        fs: &SimFs,
        is_acknowledged: bool,
        how: &dyn Fn() -> String,
    ) {
        recoverer.tally.moments += 1;
        recoverer.state(&fs.after_kill(), is_acknowledged, false, how);
        for model in self.models.iter().filter(|_| self.survives_power_cut) {
            let states = fs.crash_states(*model, MOST);
            assert!(states.complete, "{}: more states than are looked at", self.name);
            for state in states {
                recoverer.state(&state.fs, is_acknowledged, true, &|| {
                    format!("{}\n{model:?}: {}", how(), state.description)
                });
            }
        }
    }

    /// Cut off at every moment.
    fn cut(&self, way: Way, prepare: &dyn Fn(&SimFs), spoil: &dyn Fn(&SimFs)) -> Tally {
        let mut recoverer = self.recoverer(way, spoil);
        for moment in 1.. {
            let fs = (self.set)();
            fs.inject(Fault::power_off().at(moment));
            prepare(&fs);
            let is_acknowledged = (self.run)(&fs);
            let is_over = fs.count() < moment;
            assert!(is_acknowledged || !is_over, "{}: an undisturbed run failed", self.name);
            self.look_at(&mut recoverer, &fs, is_acknowledged, &|| {
                format!("{}, cut at {moment}\n{}", self.name, fs.log_text())
            });
            if is_over {
                break;
            }
        }
        recoverer.tally
    }

    /// Every operation fails, once and for ever. What that leaves is recovered each time, and
    /// recoveries are cut off for one of each kind of what there is to recover.
    fn faults(&self, way: Way) -> Tally {
        let mut recoverer = self.recoverer(way, &|_| {});
        recoverer.kinds = Some(HashSet::new());
        let undisturbed = (self.set)();
        assert!((self.run)(&undisturbed));
        for number in 1..=undisturbed.count() {
            for code in [Code::EIO, Code::ENOSPC, Code::EACCES] {
                let once = Fault::fail(code).at(number);
                let after = Fault::fail_after(code).at(number);
                for fault in [once.clone(), once.clone().for_ever(), once.for_ever_alike(), after] {
                    let fs = (self.set)();
                    fs.inject(fault.clone());
                    let is_acknowledged = (self.run)(&fs);
                    self.look_at(&mut recoverer, &fs, is_acknowledged, &|| {
                        format!("{}, {fault:?}\n{}", self.name, fs.log_text())
                    });
                }
            }
        }
        recoverer.tally
    }
}

// ── The operations ────────────────────────────────────────────────────────────────────────

fn options(durability: Durability) -> Options {
    Options { durability, retry_delay: Duration::ZERO, ..Options::default() }
}

/// The file is one of these, or missing; and the last one if that was acknowledged.
fn one_of(versions: &[Option<&[u8]>], is_durable: bool) -> Box<Promise> {
    let versions: Vec<Option<Vec<u8>>> =
        versions.iter().map(|version| version.map(<[u8]>::to_vec)).collect();
    Box::new(move |contents, is_acknowledged| {
        let found = contents.get("state.json").cloned();
        if !versions.contains(&found) {
            return Err(format!("the file is {found:?}"));
        }
        if is_acknowledged && is_durable && versions.last() != Some(&found) {
            return Err("acknowledged, and lost".to_owned());
        }
        Ok(())
    })
}

fn play(
    name: &str,
    durability: Durability,
    old: Option<&'static [u8]>,
    run: impl Fn(&SimFs) -> bool + 'static,
) -> Play {
    Play {
        name: format!("{name}, {durability:?}, old: {}", old.is_some()),
        set: Box::new(move || disk(old)),
        run: Box::new(run),
        survives_power_cut: durability != Durability::None,
        models: Model::ALL,
        is_synced: true,
        promise: one_of(&[old, Some(NEW)], durability != Durability::File),
    }
}

/// The same on a disk that keeps its metadata in order, where one sync is enough.
fn ordered(plays: Vec<Play>) -> Vec<Play> {
    let is_full = |play: &Play| play.name.contains("Full");
    plays
        .into_iter()
        .filter(is_full)
        .map(|play| {
            let set = play.set;
            let set = move || {
                let fs = set();
                fs.set_keeps_order(true);
                fs
            };
            let name = format!("{}, one sync", play.name);
            Play { name, set: Box::new(set), models: &[Model::OrderedMetadata], ..play }
        })
        .collect()
}

fn writes() -> Vec<Play> {
    each(|durability, old| {
        play("write", durability, old, move |fs| {
            let payload = Payload::Owned(NEW.to_vec());
            let request = WriteRequest { path: FILE.into(), payload, options: options(durability) };
            write::run(fs, &request, &Control::default(), None).is_ok()
        })
    })
}

fn each(make: impl Fn(Durability, Option<&'static [u8]>) -> Play) -> Vec<Play> {
    let mut plays = Vec::new();
    for durability in common::DURABILITIES {
        for old in [None, Some(OLD)] {
            plays.push(make(durability, old));
        }
    }
    plays
}

/// The versions of a batch, of which only the last is written.
const BATCH: [&[u8]; 4] = [b"{\"n\": 1}", b"[\"two\"]", b"{\"n\": 3, \"more\": null}", NEW];

fn batches() -> Vec<Play> {
    each(|durability, old| {
        let run = move |fs: &SimFs| {
            let pool = Pool::new(1, 1);
            let engine = Engine::new(fs.clone(), pool.clone());
            // They all wait while the only thread is busy.
            let (open, gate) = mpsc::channel::<()>();
            pool.submit(Box::new(move || assert!(gate.recv().is_err()))).unwrap();
            let (told, outcomes) = mpsc::channel();
            for bytes in BATCH {
                let payload = Payload::Owned(bytes.to_vec());
                let options = Options { attempts: 1, ..options(durability) };
                let request = WriteRequest { path: FILE.into(), payload, options };
                engine.submit(request, None, true, Box::new(OutcomeSender(told.clone())));
            }
            drop((open, told));
            let outcomes: Vec<bool> = outcomes.iter().map(|outcome| outcome.is_ok()).collect();
            assert_eq!(outcomes.len(), BATCH.len());
            assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "one fate for all");
            if outcomes[0] {
                assert_eq!(count_of(fs, OperationKind::Rename), 1, "they were merged");
            }
            // The lane is given back after the answers; nothing is asked of the disk for that,
            // but the handle of the directory goes with it.
            for _ in 0..10_000 {
                if fs.open_handles() == (0, 0) {
                    break;
                }
                std::thread::sleep(Duration::from_micros(100));
            }
            outcomes[0]
        };
        play("merged batch", durability, old, run)
    })
}

fn updates() -> Vec<Play> {
    each(|durability, old| {
        play("JSON update", durability, old, move |fs| {
            let update = || -> Result<(), ErrorKind> {
                let read = json_update::read(fs, FILE.as_ref(), true)?;
                assert_eq!(read.as_deref().map(str::as_bytes), old);
                let payload = Payload::Owned(NEW.to_vec());
                let options = Options { validate: Some(Format::Json), ..options(durability) };
                let request = WriteRequest { path: FILE.into(), payload, options };
                write::run(fs, &request, &Control::default(), None).map_err(|error| error.kind)
            };
            update().is_ok()
        })
    })
}

fn streams() -> Vec<Play> {
    each(|durability, old| {
        play("stream", durability, old, move |fs| {
            let control = Control::default();
            let (front, back) = NEW.split_at(5);
            let write = || {
                let options = options(durability);
                let mut stream = Stream::open(fs.clone(), FILE.into(), options, &control, None)?;
                for piece in [front, back] {
                    stream.write(&Payload::Owned(piece.to_vec()), &control, None)?;
                }
                stream.commit(&control, None)
            };
            write().is_ok()
        })
    })
}

fn backup_path(time: u64) -> PathBuf {
    PathBuf::from(format!("{FILE}.{time}.backup"))
}

fn restores() -> Vec<Play> {
    each(|durability, old| {
        let restore = play("restore", durability, old, move |fs| {
            let options = options(durability);
            let request = RestoreRequest { backup: backup_path(7), target: FILE.into(), options };
            backup::restore(fs, &request, &Control::default(), None).is_ok()
        });
        let set = move || {
            let fs = disk(old);
            fs.put_file(backup_path(7), NEW).unwrap();
            fs
        };
        Play { set: Box::new(set), ..restore }
    })
}

/// The file stays; a backup of it is whole or not there, and older ones go only when it is.
fn backups() -> Vec<Play> {
    let name = |time: u64| format!("state.json.{time}.backup");
    let mut plays = Vec::new();
    for durability in common::DURABILITIES {
        for keep in [None, Some(Retention::newest(1))] {
            let create = play("backup", durability, Some(OLD), move |fs| {
                let options = options(durability);
                let request = BackupRequest {
                    path: FILE.into(),
                    time: NOW,
                    options,
                    reuse: Reuse::default(),
                    keep,
                };
                backup::create(fs, &request, &Control::default(), None).is_ok()
            });
            let is_durable = durability != Durability::File || keep.is_some();
            let promise = move |contents: &Contents, is_acknowledged: bool| {
                if contents.get("state.json").map(Vec::as_slice) != Some(OLD) {
                    return Err("the file has changed".to_owned());
                }
                let made = contents.get(&name(NOW));
                if made.is_some_and(|made| made != OLD) {
                    return Err("the backup is torn".to_owned());
                }
                if is_acknowledged && is_durable && made.is_none() {
                    return Err("acknowledged, and lost".to_owned());
                }
                if made.is_none() && !contents.contains_key(&name(7)) {
                    return Err("the older one is gone, and the new one not there".to_owned());
                }
                Ok(())
            };
            let set = || {
                let fs = disk(Some(OLD));
                fs.put_file(backup_path(7), NEW).unwrap();
                fs
            };
            plays.push(Play { set: Box::new(set), promise: Box::new(promise), ..create });
        }
    }
    plays
}

/// What S2 does on Windows, without a sync. It promises nothing about power cuts; what is left
/// is put in order all the same.
fn by_hand() -> Vec<Play> {
    [None, Some(OLD)]
        .into_iter()
        .map(|old| {
            let run = move |fs: &SimFs| {
                let write = || -> std::io::Result<()> {
                    let dir = fs.open_dir("/dir".as_ref(), DirUse::Names)?;
                    let name = |end: &str| std::ffi::OsString::from(format!("state.json{end}"));
                    let temp = fs.create_new(&dir, &name(".tmp"), 0o644)?;
                    let (front, back) = NEW.split_at(4);
                    fs.write(&temp, Chunk::Slice(front))?;
                    fs.write(&temp, Chunk::Slice(back))?;
                    if old.is_some() {
                        let file = fs.open(&dir, &name(""))?;
                        fs.rename(&dir, &file, &name(""), &name(".bak"))?;
                    }
                    fs.rename(&dir, &temp, &name(".tmp"), &name(""))?;
                    if old.is_some() {
                        fs.remove(&dir, &name(".bak"))?;
                    }
                    Ok(())
                };
                write().is_ok()
            };
            let written = play("temp file and .bak by hand", Durability::Full, old, run);
            Play { promise: Box::new(|_, _| Ok(())), is_synced: false, ..written }
        })
        .collect()
}

fn walk(what: &str, plays: Vec<Play>) {
    let mut all = Tally::default();
    let mut failing = Tally::default();
    for play in plays {
        for way in [Way::Named, Way::DirHandle] {
            let cut = play.cut(way, &|_| {}, &|_| {});
            cut.assert_none();
            add(&mut all, &cut);
        }
        let faults = play.faults(Way::Named);
        faults.assert_none();
        add(&mut failing, &faults);
    }
    all.print(&format!("{what}, cut off"));
    failing.print(&format!("{what}, every step failing"));
}

fn add(all: &mut Tally, one: &Tally) {
    all.moments += one.moments;
    all.states += one.states;
    all.different += one.different;
    all.cut += one.cut;
    all.again += one.again;
}

#[test]
fn a_write_that_was_cut_off_is_recovered_whatever_happens() {
    walk("write", writes().into_iter().chain(ordered(writes())).collect());
}

#[test]
fn a_merged_batch_that_was_cut_off_is_recovered_whatever_happens() {
    walk("merged batch", batches().into_iter().chain(ordered(batches())).collect());
}

#[test]
fn a_json_update_that_was_cut_off_is_recovered_whatever_happens() {
    walk("JSON update", updates().into_iter().chain(ordered(updates())).collect());
}

#[test]
fn a_stream_that_was_cut_off_is_recovered_whatever_happens() {
    walk("stream", streams().into_iter().chain(ordered(streams())).collect());
}

#[test]
fn a_backup_that_was_cut_off_is_recovered_whatever_happens() {
    walk("backup", backups().into_iter().chain(ordered(backups())).collect());
}

#[test]
fn a_restore_that_was_cut_off_is_recovered_whatever_happens() {
    walk("restore", restores().into_iter().chain(ordered(restores())).collect());
}

/// Where freed blocks are used again at once, neither what was replaced nor an orphan that was
/// removed comes back with bytes of another file.
#[test]
fn operations_are_recovered_where_freed_blocks_are_used_again() {
    let mut tally = Tally::default();
    let kinds: [fn() -> Vec<Play>; 6] = [writes, batches, updates, streams, backups, restores];
    for play in kinds.into_iter().flat_map(|plays| plays().into_iter().chain(ordered(plays()))) {
        // A process that is killed keeps nothing, so if a power cut follows before the file system
        // has written its journal by itself, the file that it has replaced may be torn.
        let play = Play { is_synced: false, ..play };
        let cut = play.cut(Way::Named, &|fs| fs.set_reuses_freed(true), &|_| {});
        cut.assert_none();
        add(&mut tally, &cut);
    }
    tally.print("freed blocks are used again, cut off");
}

#[test]
fn what_was_replaced_by_hand_is_recovered_whatever_happens() {
    let mut all = Tally::default();
    for play in by_hand() {
        let cut = play.cut(Way::Named, &|_| {}, &|_| {});
        cut.assert_none();
        add(&mut all, &cut);
    }
    all.print("by hand, cut off");
}

// ── Recovery itself ───────────────────────────────────────────────────────────────────────

/// Every combination of what may be left beside a file, and is looked at.
fn scenes(way: Way) -> Vec<SimFs> {
    let is_looked_at = |fs: &SimFs| {
        let by_hand = [format!("{FILE}.tmp"), format!("{FILE}.bak")];
        way == Way::Named || by_hand.iter().all(|path| fs.inspect(path).is_err())
    };
    all_scenes().into_iter().filter(is_looked_at).collect()
}

fn all_scenes() -> Vec<SimFs> {
    const TEMP: &str = "/dir/.state.json.00000000000000aa.tmp";
    const UUID: &str = "/dir/.state.json.123e4567-e89b-12d3-a456-426614174000.tmp";
    let versions = |whole: &'static [u8]| [None, Some(whole), Some(TORN), Some(b"".as_slice())];
    let mut scenes = Vec::new();
    for file in versions(OLD) {
        for temp in versions(b"{\"from\": \"temp\"}") {
            for uuid in [None, Some(b"[\"uuid\"]".as_slice())] {
                for legacy in [None, Some(b"{\"from\": \"tmp\"}".as_slice()), Some(TORN)] {
                    for backup in [None, Some(b"{\"from\": \"bak\"}".as_slice()), Some(TORN)] {
                        let fs = disk(file);
                        let legacy_path = format!("{FILE}.tmp");
                        let backup_path = format!("{FILE}.bak");
                        for (path, bytes) in [
                            (TEMP, temp),
                            (UUID, uuid),
                            (legacy_path.as_str(), legacy),
                            (backup_path.as_str(), backup),
                        ] {
                            if let Some(bytes) = bytes {
                                fs.put_file(path, bytes).unwrap();
                            }
                        }
                        scenes.push(fs);
                    }
                }
            }
        }
    }
    scenes
}

fn recoverer<'a>(way: Way, spoil: &'a dyn Fn(&SimFs)) -> Recoverer<'a> {
    Recoverer {
        way,
        promise: &|_, _| Ok(()),
        spoil,
        never_torn: false,
        seen: HashSet::new(),
        seen_again: HashSet::new(),
        kinds: None,
        tally: Tally::default(),
    }
}

#[test]
fn a_recovery_that_was_cut_off_is_finished_by_the_next_one() {
    for way in [Way::Named, Way::DirHandle] {
        let mut recoverer = recoverer(way, &|_| {});
        for fs in scenes(way) {
            recoverer.state(&fs, false, true, &|| fs.describe());
        }
        recoverer.tally.print(&format!("recovery, {way:?}, cut off"));
        recoverer.tally.assert_none();
    }
}

#[test]
fn a_recovery_in_which_every_step_fails_loses_nothing_and_says_so() {
    let (mut runs, mut failed) = (0, 0);
    for way in [Way::Named, Way::DirHandle] {
        for scene in scenes(way) {
            let before = contents(&scene);
            let undisturbed = scene.after_kill();
            recover(&undisturbed, way).unwrap();
            for number in 1..=undisturbed.count() {
                for code in [Code::EIO, Code::EACCES] {
                    let once = Fault::fail(code).at(number);
                    let after = Fault::fail_after(code).at(number);
                    let faults =
                        [once.clone(), once.clone().for_ever(), once.for_ever_alike(), after];
                    for fault in faults {
                        runs += 1;
                        let fs = scene.after_kill();
                        fs.inject(fault.clone());
                        let report = recover(&fs, way);
                        fs.repair();
                        let complain = |complaint: String| {
                            panic!(
                                "{way:?}, {fault:?}: {complaint}\n{}\n{}",
                                scene.describe(),
                                fs.log_text()
                            )
                        };
                        let is_told = match &report {
                            Ok(actions) => {
                                actions.iter().any(|action| action.kind == ActionKind::Failed)
                            }
                            Err(_) => true,
                        };
                        failed += usize::from(is_told);
                        let now = contents(&fs);
                        // A caller that is told of nothing finds everything done, except what is still
                        // in use by the looks of it.
                        let is_left = |actions: &Vec<RecoveryAction>| {
                            actions.iter().any(|action| action.kind == ActionKind::Left)
                        };
                        if !is_told && !report.as_ref().is_ok_and(is_left) {
                            check_recovered(&before, &now, way).unwrap_or_else(complain);
                        }
                        if fs.open_handles() != (0, 0) {
                            complain("open handles".to_owned());
                        }
                        // What has been done is done, and the rest is done by the next one.
                        recover(&fs, way).unwrap();
                        check_recovered(&before, &contents(&fs), way).unwrap_or_else(complain);
                    }
                }
            }
        }
    }
    println!("recovery, every step failing: {runs} runs, of which {failed} were told");
}

// ── Recovery from backups ─────────────────────────────────────────────────────────────────

/// Corrupt files, each with what may be left beside it and with some of three backups.
fn scenes_with_backups() -> Vec<SimFs> {
    const TEMP: &str = "/dir/.state.json.00000000000000aa.tmp";
    let mut scenes = Vec::new();
    for file in [TORN, b"".as_slice()] {
        for temp in [None, Some(b"{\"from\": \"temp\"}".as_slice()), Some(TORN)] {
            for present in 0..8_u8 {
                let fs = disk(Some(file));
                if let Some(bytes) = temp {
                    fs.put_file(TEMP, bytes).unwrap();
                }
                let backups = [(1, OLD), (2, b"{\"from\": \"backup\"}".as_slice()), (3, TORN)];
                for (bit, (time, bytes)) in backups.into_iter().enumerate() {
                    if present & (1 << bit) != 0 {
                        fs.put_file(backup_path(time), bytes).unwrap();
                    }
                }
                scenes.push(fs);
            }
        }
    }
    scenes
}

/// Compares what was there before a recovery that may take backups with what is there after it.
fn check_restored(before: &Contents, after: &Contents, way: Way) -> Result<(), String> {
    let old = &before["state.json"];
    let backups = || before.iter().filter(|(name, _)| name.ends_with(".backup"));
    let newest_good = backups().rfind(|(_, bytes)| is_whole(bytes)).map(|(_, bytes)| bytes);
    let remains = whole_remains(before, way);
    let wanted = remains.first().copied().or(newest_good).unwrap_or(old);
    if after.get("state.json") != Some(wanted) {
        return Err(format!("the file is {:?}", after.get("state.json")));
    }
    let is_aside = |(name, bytes): (&String, &Vec<u8>)| {
        name.starts_with("state.json.corrupt-") && bytes == old
    };
    if wanted != old && !after.iter().any(is_aside) {
        return Err("the corrupt file is lost".to_owned());
    }
    if let Some((name, _)) = backups().find(|(name, bytes)| after.get(*name) != Some(bytes)) {
        return Err(format!("{name} was touched"));
    }
    match after.keys().find(|name| is_temp(name)) {
        Some(name) => Err(format!("{name} is left")),
        None => Ok(()),
    }
}

/// Cuts recoveries of all scenes off at every moment, and recovers what that leaves. Returns the
/// complaints, and how many states were recovered again.
fn cut_recoveries_from_backups(spoil: &dyn Fn(&SimFs)) -> (Vec<String>, usize) {
    let (mut complaints, mut again) = (Vec::new(), 0);
    for way in [Way::Named, Way::DirHandle] {
        for scene in scenes_with_backups() {
            let before = contents(&scene);
            let undisturbed = scene.after_kill();
            spoil(&undisturbed);
            let actions = recover_with(&undisturbed, way, true).unwrap();
            assert!(actions.iter().all(|action| action.kind != ActionKind::Failed), "{actions:?}");
            let mut left = vec![undisturbed.after_kill()];
            let states_of = |fs: &SimFs| -> Vec<SimFs> {
                let states = Model::ALL.iter().map(|model| fs.crash_states(*model, MOST));
                states.inspect(|states| assert!(states.complete)).flatten().map(|s| s.fs).collect()
            };
            // What is restored is durable.
            left.extend(states_of(&undisturbed));
            for state in &left {
                if contents(state).get("state.json") != contents(&undisturbed).get("state.json") {
                    complaints.push(format!("{way:?}: not durable\n{}", undisturbed.log_text()));
                }
            }
            for moment in 1..=undisturbed.count() {
                let fs = scene.after_kill();
                fs.inject(Fault::power_off().at(moment));
                spoil(&fs);
                let _ = recover_with(&fs, way, true);
                left.push(fs.after_kill());
                left.extend(states_of(&fs));
            }
            for state in left {
                again += 1;
                let found = contents(&state);
                recover_with(&state, way, true).unwrap();
                if let Err(complaint) = check_restored(&before, &contents(&state), way) {
                    complaints.push(format!("{way:?}: {complaint}\n{before:?}\n{found:?}"));
                }
                assert_eq!(state.open_handles(), (0, 0));
            }
        }
    }
    (complaints, again)
}

#[test]
fn a_recovery_from_a_backup_that_was_cut_off_is_finished_by_the_next_one() {
    let (complaints, again) = cut_recoveries_from_backups(&|_| {});
    assert!(complaints.is_empty(), "{} complaints: {}", complaints.len(), complaints[0]);
    println!("recovery from backups: {again} states recovered again");
    // The same walk without the syncs finds something.
    for kind in [OperationKind::SyncFile, OperationKind::SyncDir] {
        let leave_out = |fs: &SimFs| fs.inject(Fault::ignore().of(kind).for_ever());
        assert!(!cut_recoveries_from_backups(&leave_out).0.is_empty(), "{kind:?}");
    }
}

#[test]
fn a_recovery_from_a_backup_in_which_every_step_fails_loses_nothing_and_says_so() {
    let (mut runs, mut told) = (0, 0);
    for way in [Way::Named, Way::DirHandle] {
        for scene in scenes_with_backups() {
            let before = contents(&scene);
            let undisturbed = scene.after_kill();
            recover_with(&undisturbed, way, true).unwrap();
            for number in 1..=undisturbed.count() {
                for code in [Code::EIO, Code::ENOSPC, Code::EACCES] {
                    let once = Fault::fail(code).at(number);
                    let after = Fault::fail_after(code).at(number);
                    for fault in
                        [once.clone(), once.clone().for_ever(), once.for_ever_alike(), after]
                    {
                        runs += 1;
                        let fs = scene.after_kill();
                        fs.inject(fault.clone());
                        let report = recover_with(&fs, way, true);
                        fs.repair();
                        let complain = |complaint: String| {
                            panic!("{way:?}, {fault:?}: {complaint}\n{before:?}\n{}", fs.log_text())
                        };
                        let says = |kinds: &[ActionKind]| {
                            let actions = report.as_ref().map_or(&[][..], Vec::as_slice);
                            report.is_err()
                                || actions.iter().any(|action| kinds.contains(&action.kind))
                        };
                        let is_told = says(&[ActionKind::Failed, ActionKind::Left]);
                        told += usize::from(is_told);
                        if !is_told {
                            check_restored(&before, &contents(&fs), way).unwrap_or_else(complain);
                        }
                        assert_eq!(fs.open_handles(), (0, 0), "{way:?}, {fault:?}");
                        recover_with(&fs, way, true).unwrap();
                        check_restored(&before, &contents(&fs), way).unwrap_or_else(complain);
                    }
                }
            }
        }
    }
    println!("recovery from backups, every step failing: {runs} runs, of which {told} were told");
}

// ── The same walks find what they are there to find ───────────────────────────────────────

fn finds(way: Way, spoil: &dyn Fn(&SimFs)) -> bool {
    let mut recoverer = recoverer(way, spoil);
    for fs in scenes(way) {
        recoverer.state(&fs, false, true, &|| fs.describe());
        // What is in memory only has to be brought to the disk as well.
        if !recoverer.tally.complaints.is_empty() {
            return true;
        }
    }
    false
}

#[test]
fn a_recovery_that_left_out_a_sync_of_the_dir_would_be_noticed() {
    let leave_out = |fs: &SimFs| fs.inject(Fault::ignore().of(OperationKind::SyncDir).for_ever());
    assert!(finds(Way::Named, &leave_out));
    // The first one only: that between the rename that sets aside and the one that restores.
    let first = |fs: &SimFs| fs.inject(Fault::ignore().of(OperationKind::SyncDir));
    assert!(finds(Way::Named, &first));
    assert!(finds(Way::DirHandle, &first));
}

#[test]
fn a_recovery_that_left_out_a_sync_of_the_file_would_be_noticed() {
    let leave_out = |fs: &SimFs| fs.inject(Fault::ignore().of(OperationKind::SyncFile).for_ever());
    let found = Mutex::new(false);
    for play in writes().into_iter().chain(by_hand()) {
        let tally = play.cut(Way::Named, &|_| {}, &leave_out);
        *found.lock().unwrap() |= !tally.complaints.is_empty();
    }
    assert!(*found.lock().unwrap());
}

#[test]
fn a_recovery_that_renamed_before_the_sync_would_be_noticed() {
    let sync_late = |fs: &SimFs| {
        fs.inject(Fault::ignore().of(OperationKind::SyncFile).for_ever());
        let sync = |fs: &SimFs, _: &Path| drop(fs.sync_filesystem());
        fs.inject(Fault::intrude(sync).of(OperationKind::SyncDir));
    };
    let is_noticed = |play: &Play| {
        let tally = play.cut(Way::Named, &|_| {}, &sync_late);
        tally.complaints.iter().any(|complaint| complaint.contains("torn"))
    };
    assert!(writes().iter().any(is_noticed));
}

#[test]
fn a_recovery_that_only_synced_what_it_did_not_write_would_be_noticed() {
    // A write whose sync fails, and whose temp file cannot be removed either.
    let fs = disk(None);
    fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncFile).for_ever());
    fs.inject(Fault::fail(Code::EIO).of(OperationKind::Remove).for_ever());
    let payload = Payload::Owned(NEW.to_vec());
    let once = Options { attempts: 1, ..options(Durability::Full) };
    let request = WriteRequest { path: FILE.into(), payload, options: once };
    write::run(&fs, &request, &Control::default(), None).unwrap_err();
    let is_durable = |spoil: &dyn Fn(&SimFs)| {
        let fs = fs.after_kill();
        spoil(&fs);
        recover(&fs, Way::Named).unwrap();
        assert_eq!(*fs.read_file(FILE).unwrap(), NEW);
        Model::ALL.iter().all(|model| {
            let mut states = fs.crash_states(*model, MOST).states.into_iter();
            states.all(|state| state.fs.read_file(FILE).is_ok_and(|found| *found == NEW))
        })
    };
    assert!(is_durable(&|_| {}));
    assert!(!is_durable(&|fs| {
        fs.inject(Fault::ignore().of(OperationKind::Write).for_ever());
    }));
}

#[test]
fn a_write_that_left_out_a_sync_would_be_noticed_after_the_recovery_too() {
    for (kind, what) in
        [(OperationKind::SyncFile, "the file"), (OperationKind::SyncDir, "the folder")]
    {
        for (name, plays) in [
            ("write", writes()),
            ("merged batch", batches()),
            ("JSON update", updates()),
            ("stream", streams()),
            ("restore", restores()),
            ("backup", backups()),
        ] {
            let found: usize = plays
                .iter()
                .filter(|play| play.survives_power_cut)
                .map(|play| {
                    let leave_out = |fs: &SimFs| fs.inject(Fault::ignore().of(kind).for_ever());
                    play.cut(Way::Named, &leave_out, &|_| {}).complaints.len()
                })
                .sum();
            assert!(found > 0, "{name}, without the sync of {what}");
        }
    }
}

#[test]
fn a_write_that_renamed_before_the_sync_would_be_noticed_after_the_recovery_too() {
    let sync_late = |fs: &SimFs| {
        fs.inject(Fault::ignore().of(OperationKind::SyncFile).for_ever());
        let sync = |fs: &SimFs, _: &Path| drop(fs.sync_filesystem());
        fs.inject(Fault::intrude(sync).of(OperationKind::SyncDir));
    };
    let found = writes().iter().any(|play| {
        play.survives_power_cut && !play.cut(Way::Named, &sync_late, &|_| {}).complaints.is_empty()
    });
    assert!(found);
}
