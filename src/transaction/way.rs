//! The relative path from one directory to another: it holds in a tree that has been copied, moved
//! or mounted elsewhere, too.

use std::path::{Component, Path, PathBuf};

/// The way from one directory to another, both given by absolute paths without symbolic links. `None`
/// where there is none (two drives), or where the paths are one.
pub(super) fn between(from: &Path, to: &Path) -> Option<PathBuf> {
    let mut from = from.components().peekable();
    let mut to = to.components().peekable();
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    let mut way = PathBuf::new();
    for component in from {
        match component {
            Component::Normal(_) => way.push(Component::ParentDir),
            _ => return None,
        }
    }
    for component in to {
        match component {
            Component::Normal(name) => way.push(name),
            _ => return None,
        }
    }
    is_way(&way).then_some(way)
}

/// Whether it is such a path: some steps up, and then some down, at least one of them.
pub(super) fn is_way(path: &Path) -> bool {
    let is_down = |component: &Component<'_>| matches!(component, Component::Normal(_));
    let mut steps = path.components().skip_while(|step| *step == Component::ParentDir);
    let text = path.as_os_str();
    !text.is_empty() && !text.as_encoded_bytes().contains(&0) && steps.all(|step| is_down(&step))
}

/// Where a way leads from a directory. `None` where it leads above the root, or where the end of
/// the path cannot be told.
pub(super) fn along(dir: &Path, way: &Path) -> Option<PathBuf> {
    let mut path = dir.to_owned();
    for step in way.components() {
        match (step, path.components().next_back()) {
            (Component::ParentDir, Some(Component::Normal(_))) => drop(path.pop()),
            (Component::Normal(name), _) => path.push(name),
            _ => return None,
        }
    }
    Some(path)
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_way_leads_where_it_was_measured_and_in_a_copy_to_the_copy() {
        for (from, to, way) in [
            ("/p/a", "/p/b", "../b"),
            ("/p", "/p/a/b", "a/b"),
            ("/p/a/b", "/p", "../.."),
            ("/p/a", "/q/r/s", "../../q/r/s"),
            ("/", "/a", "a"),
        ] {
            let found = between(from.as_ref(), to.as_ref()).unwrap();
            assert_eq!(found, Path::new(way));
            assert_eq!(along(from.as_ref(), &found).unwrap(), Path::new(to));
        }
        assert_eq!(along("/copy/a".as_ref(), "../b".as_ref()).unwrap(), Path::new("/copy/b"));
        assert_eq!(along("/".as_ref(), "../b".as_ref()), None);
        assert_eq!(along("/x/..".as_ref(), "../b".as_ref()), None);
        assert_eq!(between("/p".as_ref(), "/p".as_ref()), None);
    }

    #[test]
    fn what_is_no_way_is_told() {
        for good in ["a", "..", "../b", "../../b/c", "a b"] {
            assert!(is_way(good.as_ref()), "{good}");
        }
        for bad in ["", ".", "/", "/a", "a/..", "../a/../b", "a\0b"] {
            assert!(!is_way(bad.as_ref()), "{bad}");
        }
    }
}
