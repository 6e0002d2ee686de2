//! The states that a power cut may leave.
//!
//! They are built in two steps. An [`Outline`] fixes the names, and says for each file
//! which attributes and contents it may have there. Then every outline is filled in with
//! every choice of those.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use super::SimFs;
use super::content::{Content, Variant, add_foreign};
use super::disk::{
    AllAttributes, Attributes, Body, Change, Disk, Inode, Names, Node, ROOT, Record,
};

/// What is assumed about the order in which a disk is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Model {
    /// What POSIX promises: nothing but what a sync of that very file or directory has
    /// confirmed. What is not yet synced reaches the disk in any order, or never.
    StrictPosix,
    /// What ext4 and xfs do: changes of names, sizes and attributes go through one
    /// log, of which a power cut leaves a beginning; a sync commits the log up to the
    /// last change that touches what it was asked for. Contents are as loose as in the
    /// other model, except those whose write-back was awaited: they are there as soon as
    /// the log has got past that point.
    OrderedMetadata,
}

impl Model {
    /// Both models.
    pub const ALL: &'static [Model] = &[Model::StrictPosix, Model::OrderedMetadata];
}

/// One state that a power cut may leave.
#[derive(Clone, Debug)]
pub struct CrashState {
    /// The disk after the restart: everything on it is durable, no process has it open, it has
    /// no faults, and its count of operations starts anew. Files keep their numbers.
    pub fs: SimFs,
    /// How it came about, for people.
    pub description: Description,
}

/// How a crash state came about, for people. The text is made when it is asked for.
#[derive(Clone, Debug)]
pub struct Description {
    outline: Arc<Outline>,
    choice: Vec<usize>,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.outline.description)?;
        for (open, choice) in self.outline.open.iter().zip(&self.choice) {
            if open.choices() > 1 {
                write!(f, "; {}:", open.path.display())?;
                let (attributes, content) = open.choose(*choice);
                if let Some(variant) = content {
                    write!(f, " {}", variant.description)?;
                }
                if let Some(AllAttributes { basic, extended }) = attributes {
                    let Attributes { mode, uid, gid } = basic;
                    write!(f, ", mode {mode:o}, owner {uid}:{gid}")?;
                    extended.0.iter().try_for_each(|it| write!(f, ", {}", it.name.display()))?;
                }
            }
        }
        Ok(())
    }
}

/// The states that a power cut may leave; see [`SimFs::crash_states`].
#[derive(Clone, Debug)]
pub struct CrashStates {
    /// The states, no two of them alike.
    pub states: Vec<CrashState>,
    /// Whether these are all that the model allows. If not, there were more than asked
    /// for, and a selection was made.
    pub complete: bool,
}

impl IntoIterator for CrashStates {
    type Item = CrashState;
    type IntoIter = std::vec::IntoIter<CrashState>;

    fn into_iter(self) -> Self::IntoIter {
        self.states.into_iter()
    }
}

/// Names that a power cut may leave, and what is not decided by them.
#[derive(Debug)]
struct Outline {
    /// The names in each directory that can be reached from the root.
    dirs: BTreeMap<Inode, Names>,
    open: Vec<Undecided>,
    description: String,
}

/// A node that is there in an outline.
#[derive(Debug)]
struct Undecided {
    inode: Inode,
    /// What it was called at the moment of the power cut.
    path: PathBuf,
    attributes: Vec<AllAttributes>,
    /// Empty for what is not a file.
    contents: Arc<Vec<Variant>>,
}

/// The variants of a file's content by its number and what is on the disk of it.
type Contents = HashMap<(Inode, usize), Arc<Vec<Variant>>>;

/// Numbers that look random and are the same every time.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        number ^ (number >> 31)
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or_default()
    }
}

/// Lists the states, at most about `most` of them.
pub(super) fn states(disk: &Disk, model: Model, most: usize, seed: u64) -> CrashStates {
    let most = most.max(1);
    let mut random = SplitMix64(seed);
    let mut complete = true;
    let outlines = match model {
        Model::StrictPosix => strict_outlines(disk, most, &mut random, &mut complete),
        Model::OrderedMetadata => ordered_outlines(disk, most, &mut random, &mut complete),
    };
    // Outlines with little to decide leave their share to the others.
    let mut left = most;
    let mut outlines_left = outlines.len();
    let mut outlines: Vec<Arc<Outline>> = outlines.into_iter().map(Arc::new).collect();
    outlines.sort_by_key(|outline| outline.open.iter().map(Undecided::choices).sum::<usize>());
    let mut states = Vec::new();
    let mut known = HashSet::new();
    for outline in outlines {
        let share = (left / outlines_left.max(1)).max(1);
        outlines_left -= 1;
        let counts: Vec<usize> = outline.open.iter().map(Undecided::choices).collect();
        let (choices, all) = choices(&counts, share, &mut random);
        complete &= all;
        left = left.saturating_sub(choices.len());
        for choice in choices {
            let nodes = outline.fill_in(disk, &choice);
            if known.insert(fingerprint(&nodes)) {
                let fs = SimFs::from_disk(disk.with_nodes(nodes));
                let description = Description { outline: Arc::clone(&outline), choice };
                states.push(CrashState { fs, description });
            }
        }
    }
    CrashStates { states, complete }
}

/// Any subset of the changes of names that no directory sync has confirmed.
fn strict_outlines(
    disk: &Disk,
    most: usize,
    random: &mut SplitMix64,
    complete: &mut bool,
) -> Vec<Outline> {
    let pending: Vec<usize> = (0..disk.records.len())
        .filter(|index| {
            disk.records
                .get(*index)
                .is_some_and(|record| !record.durable && record.change.dir().is_some())
        })
        .collect();
    let (subsets, all) = choices(&vec![2; pending.len()], most, random);
    *complete &= all;

    let mut outlines = Vec::new();
    let mut known = HashSet::new();
    let mut contents = Contents::new();
    for subset in subsets {
        let left_out: HashSet<usize> = pending
            .iter()
            .zip(&subset)
            .filter(|(_, applied)| **applied == 0)
            .map(|(index, _)| *index)
            .collect();
        let applied: Vec<&Record> = disk
            .records
            .iter()
            .enumerate()
            .filter(|(index, _)| !left_out.contains(index))
            .map(|(_, record)| record)
            .collect();
        for order in [Order::AsMade, Order::FirstRenameWins] {
            let Some(dirs) = names_after(disk, &applied, order) else { continue };
            if known.insert(fingerprint(&dirs)) {
                let names = left_out
                    .iter()
                    .filter_map(|index| disk.records.get(*index))
                    .map(|record| disk.describe(&record.change))
                    .collect::<Vec<_>>()
                    .join(", ");
                let open = undecided(disk, &dirs, &mut contents, strict_attributes, |_| None);
                outlines.push(Outline {
                    dirs,
                    open,
                    description: match (names.as_str(), order) {
                        ("", Order::AsMade) => "all names as they were".to_owned(),
                        (_, Order::AsMade) => format!("without {names}"),
                        (_, Order::FirstRenameWins) => {
                            format!("without {names}, renames in another order")
                        }
                    },
                });
            }
        }
    }
    outlines
}

/// Any beginning of the log that has what the syncs have committed.
fn ordered_outlines(
    disk: &Disk,
    most: usize,
    random: &mut SplitMix64,
    complete: &mut bool,
) -> Vec<Outline> {
    let shortest = disk.committed;
    let longest = disk.records.len();
    let mut lengths: BTreeSet<usize> = (shortest..=longest).collect();
    if lengths.len() > most {
        *complete = false;
        lengths = BTreeSet::from([shortest, longest]);
        lengths.extend((0..most).map(|_| shortest + random.below(longest - shortest)));
    }
    let mut contents = Contents::new();
    let mut outlines = Vec::new();
    for length in lengths {
        let applied: Vec<&Record> = disk.records.iter().take(length).collect();
        let Some(dirs) = names_after(disk, &applied, Order::AsMade) else { continue };
        let attributes = |node: &Node, inode: Inode, _: &Disk| {
            let last = applied.iter().rev().find_map(|record| match &record.change {
                Change::Attributes { inode: of, attributes } if *of == inode => {
                    Some(attributes.clone())
                }
                _ => None,
            });
            vec![last.unwrap_or_else(|| node.durable_attributes.clone())]
        };
        let written_back = |inode: Inode| {
            disk.records.iter().take(length).rev().find_map(|record| match &record.change {
                // A sync that came later has overtaken a durable one.
                Change::WrittenBack { inode: of, bytes } if *of == inode && !record.durable => {
                    Some(Arc::clone(bytes))
                }
                _ => None,
            })
        };
        let open = undecided(disk, &dirs, &mut contents, attributes, written_back);
        let last = disk
            .records
            .get(length.wrapping_sub(1))
            .map_or_else(|| "nothing new".to_owned(), |record| disk.describe(&record.change));
        let description = format!("the log up to: {last}");
        outlines.push(Outline { dirs, open, description });
    }
    outlines
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    AsMade,
    /// Of several renames to one name, the one made first is the last to reach the disk; not if
    /// a sync has confirmed it, perhaps before the others were made.
    FirstRenameWins,
}

/// The names in the directories that can be reached once these changes are made to what is
/// durable, or nothing if the order makes no difference.
fn names_after(disk: &Disk, applied: &[&Record], order: Order) -> Option<BTreeMap<Inode, Names>> {
    let mut all: BTreeMap<Inode, Names> = disk
        .nodes
        .iter()
        .filter_map(|(inode, node)| match &node.body {
            Body::Dir { durable, .. } => Some((*inode, durable.clone())),
            Body::File(_) | Body::Link(_) => None,
        })
        .collect();
    let mut winners: HashMap<(Inode, &std::ffi::OsStr), Inode> = HashMap::new();
    let mut differs = order == Order::AsMade;
    for Record { change, durable, .. } in applied {
        let Some(names) = change.dir().and_then(|dir| all.get_mut(&dir)) else {
            continue;
        };
        change.apply(names);
        if let (Order::FirstRenameWins, Change::Rename { dir, to, inode, .. }) = (order, change)
            && (!durable || winners.contains_key(&(*dir, to.as_os_str())))
        {
            let winner = *winners.entry((*dir, to)).or_insert(*inode);
            if winner != *inode {
                differs = true;
                names.insert(to.clone(), winner);
            }
        }
    }
    if !differs {
        return None;
    }
    let mut reachable = BTreeMap::new();
    let mut ahead = vec![ROOT];
    while let Some(dir) = ahead.pop() {
        if let Some(names) = all.remove(&dir) {
            ahead.extend(names.values());
            reachable.insert(dir, names);
        }
    }
    Some(reachable)
}

/// Every value since the last one that a sync has confirmed.
fn strict_attributes(node: &Node, inode: Inode, disk: &Disk) -> Vec<AllAttributes> {
    let mut candidates = vec![node.durable_attributes.clone()];
    for record in &disk.records {
        if let Change::Attributes { inode: of, attributes } = &record.change
            && *of == inode
        {
            if record.durable {
                candidates.clear();
            }
            if !candidates.contains(attributes) {
                candidates.push(attributes.clone());
            }
        }
    }
    candidates
}

/// What is left to decide for the nodes that these names lead to.
fn undecided(
    disk: &Disk,
    dirs: &BTreeMap<Inode, Names>,
    contents: &mut Contents,
    attributes: impl Fn(&Node, Inode, &Disk) -> Vec<AllAttributes>,
    written_back: impl Fn(Inode) -> Option<super::content::Bytes>,
) -> Vec<Undecided> {
    let mut inodes: Vec<Inode> =
        dirs.values().flat_map(|names| names.values()).copied().chain([ROOT]).collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes
        .into_iter()
        .filter_map(|inode| {
            let node = disk.nodes.get(&inode)?;
            let contents = match &node.body {
                Body::File(content) => {
                    let base = written_back(inode).unwrap_or_else(|| Arc::clone(content.durable()));
                    let key = (inode, Arc::as_ptr(&base) as usize);
                    let variants = contents.entry(key).or_insert_with(|| {
                        let mut variants = content.variants(&base);
                        if disk.freed.contains(&inode) {
                            add_foreign(&mut variants, &base);
                        }
                        Arc::new(variants)
                    });
                    Arc::clone(variants)
                }
                Body::Dir { .. } | Body::Link(_) => Arc::new(Vec::new()),
            };
            let path = disk.path_of(inode);
            Some(Undecided { inode, path, attributes: attributes(node, inode, disk), contents })
        })
        .collect()
}

impl Undecided {
    fn choices(&self) -> usize {
        self.attributes.len().max(1) * self.contents.len().max(1)
    }

    fn choose(&self, choice: usize) -> (Option<&AllAttributes>, Option<&Variant>) {
        let contents = self.contents.len().max(1);
        (self.attributes.get(choice / contents), self.contents.get(choice % contents))
    }
}

impl Outline {
    /// The disk's nodes under these names with these choices.
    fn fill_in(&self, disk: &Disk, choice: &[usize]) -> BTreeMap<Inode, Node> {
        let mut nodes = BTreeMap::new();
        for (open, choice) in self.open.iter().zip(choice) {
            let Some(node) = disk.nodes.get(&open.inode) else { continue };
            let (attributes, content) = open.choose(*choice);
            let attributes = attributes.unwrap_or(&node.durable_attributes).clone();
            let body = match (&node.body, content) {
                (Body::Dir { .. }, _) => {
                    let names = self.dirs.get(&open.inode).cloned().unwrap_or_default();
                    Body::Dir { names: names.clone(), durable: names }
                }
                (Body::File(_), Some(variant)) => {
                    Body::File(Content::all_durable(Arc::clone(&variant.bytes)))
                }
                (body, _) => body.clone(),
            };
            let durable_attributes = attributes.clone();
            let changed = node.changed;
            let node = Node { entry: None, attributes, durable_attributes, changed, body };
            nodes.insert(open.inode, node);
        }
        for (dir, names) in &self.dirs {
            for (name, inode) in names {
                if let Some(node) = nodes.get_mut(inode) {
                    node.entry = Some((*dir, name.clone()));
                }
            }
        }
        nodes
    }
}

/// All combinations of one choice each, or, when there are more than `most`, those in
/// which almost everything is at its first or almost everything at its last choice, and
/// a random selection of the others. Says whether these are all.
fn choices(counts: &[usize], most: usize, random: &mut SplitMix64) -> (Vec<Vec<usize>>, bool) {
    let total = counts
        .iter()
        .try_fold(1_usize, |total, count| total.checked_mul((*count).max(1)))
        .filter(|total| *total <= most);
    if let Some(total) = total {
        let all = (0..total)
            .map(|mut rest| {
                counts
                    .iter()
                    .map(|count| {
                        let choice = rest % (*count).max(1);
                        rest /= (*count).max(1);
                        choice
                    })
                    .collect()
            })
            .collect();
        return (all, true);
    }

    let first: Vec<usize> = vec![0; counts.len()];
    let last: Vec<usize> = counts.iter().map(|count| count.saturating_sub(1)).collect();
    let mut found = vec![first.clone(), last.clone()];
    let mut known: HashSet<Vec<usize>> = found.iter().cloned().collect();
    // Ever more deviations from both corners, up to half of what is asked for.
    let mut from = 0;
    while from < found.len() && found.len() < most.div_ceil(2) {
        let Some(corner) = found.get(from).cloned() else { break };
        from += 1;
        for (axis, count) in counts.iter().enumerate() {
            for value in 0..*count {
                let mut next = corner.clone();
                if let Some(choice) = next.get_mut(axis) {
                    *choice = value;
                }
                if found.len() < most.div_ceil(2) && known.insert(next.clone()) {
                    found.push(next);
                }
            }
        }
    }
    // There are more than `most` combinations, so this ends; the bound on the number of draws
    // keeps it short when nearly all are known.
    for _ in 0..most.saturating_mul(8) {
        if found.len() >= most {
            break;
        }
        let next: Vec<usize> = counts.iter().map(|count| random.below(*count)).collect();
        if known.insert(next.clone()) {
            found.push(next);
        }
    }
    found.truncate(most);
    (found, false)
}

trait Fingerprint {
    fn add_to(&self, hasher: &mut DefaultHasher);
}

/// Tells states apart; that two of them share it by chance is not to be expected.
fn fingerprint(of: &impl Fingerprint) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.add_to(&mut hasher);
    hasher.finish()
}

impl Fingerprint for BTreeMap<Inode, Names> {
    fn add_to(&self, hasher: &mut DefaultHasher) {
        self.hash(hasher);
    }
}

impl Fingerprint for BTreeMap<Inode, Node> {
    fn add_to(&self, hasher: &mut DefaultHasher) {
        for (inode, node) in self {
            (inode, &node.attributes).hash(hasher);
            match &node.body {
                // Large contents are shared between the states, so their address will do.
                Body::File(content) if content.len() > 4096 => {
                    (content.len(), Arc::as_ptr(content.cached()) as usize).hash(hasher);
                }
                Body::File(content) => content.cached().hash(hasher),
                Body::Dir { names, .. } => names.hash(hasher),
                Body::Link(target) => target.hash(hasher),
            }
        }
    }
}
