//! From a path to what it leads to, and back.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::rights::Process;
use super::{Body, Disk, Inode, ROOT};
use holdfast::error::Code;

/// How many symbolic links a path may lead through, as on Linux.
const LINKS: usize = 40;

enum Step {
    Root,
    Up,
    Name(OsString),
}

/// The steps of a path, the first one last.
fn steps(path: &Path) -> io::Result<Vec<Step>> {
    let mut steps = Vec::new();
    for component in path.components() {
        match component {
            Component::Prefix(_) => return Err(Code::EINVAL.error()),
            Component::RootDir => steps.push(Step::Root),
            Component::CurDir => {}
            Component::ParentDir => steps.push(Step::Up),
            Component::Normal(name) => steps.push(Step::Name(name.to_owned())),
        }
    }
    steps.reverse();
    Ok(steps)
}

impl Disk {
    /// Follows a path. Without a process (`None`) every directory may be searched.
    pub(crate) fn walk(
        &self,
        who: Option<Process>,
        path: &Path,
        follow_last: bool,
    ) -> io::Result<Inode> {
        if !path.has_root() {
            return Err(Code::EINVAL.error());
        }
        let mut links = 0;
        let mut at = ROOT;
        let mut ahead = steps(path)?;
        while let Some(step) = ahead.pop() {
            match step {
                Step::Root => at = ROOT,
                Step::Up => {
                    at = self.node(at)?.entry.as_ref().map_or(ROOT, |(dir, _)| *dir);
                }
                Step::Name(name) => {
                    let child = self.child(who, at, &name)?;
                    match &self.node(child)?.body {
                        Body::Link(target) if follow_last || !ahead.is_empty() => {
                            links += 1;
                            if links > LINKS {
                                return Err(Code::ELOOP.error());
                            }
                            ahead.append(&mut steps(target)?);
                        }
                        _ => at = child,
                    }
                }
            }
        }
        Ok(at)
    }

    /// The directory that a path names something in, and that name.
    pub(super) fn walk_to_parent(
        &self,
        who: Option<Process>,
        path: &Path,
    ) -> io::Result<(Inode, OsString)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Code::EEXIST.error());
        };
        Ok((self.walk(who, parent, true)?, name.to_owned()))
    }

    /// What a node is called at the moment.
    pub(crate) fn path_of(&self, inode: Inode) -> PathBuf {
        let mut names = Vec::new();
        let mut at = inode;
        while at != ROOT {
            match self.nodes.get(&at).and_then(|node| node.entry.as_ref()) {
                Some((dir, name)) => {
                    names.push(name.clone());
                    at = *dir;
                }
                None => {
                    names.push(format!("(nameless {at})").into());
                    break;
                }
            }
        }
        let mut path = PathBuf::from("/");
        path.extend(names.iter().rev());
        path
    }

    /// The path of everything there is, directories before what is in them.
    pub(crate) fn tree(&self) -> Vec<(PathBuf, Inode)> {
        let mut found = Vec::new();
        let mut ahead = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, inode)) = ahead.pop() {
            if let Ok(names) = self.names(inode) {
                ahead.extend(names.iter().rev().map(|(name, inode)| (path.join(name), *inode)));
            }
            found.push((path, inode));
        }
        found
    }
}
