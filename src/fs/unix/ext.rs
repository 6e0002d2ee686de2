//! How an ext file system keeps its journal, and the bytes beside it.

use super::mount_options;

/// What becomes of the bytes of files on a file system with a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataMode {
    /// `data=writeback`: the journal does not wait for them.
    Writeback,
    /// `data=ordered` or `data=journal`: they are on the disk before what refers to them.
    Kept,
}

/// What ext4 calls a device below `/sys/fs/ext4` and `/proc/fs/ext4`.
pub(super) fn device_name(device: u64) -> Option<String> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let device_dir = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    Some(device_dir.file_name()?.to_str()?.to_owned())
}

/// Whether it has a journal. Without one (ext2, and ext4 made so) nothing is kept in order.
pub(super) fn has_journal(device_name: &str) -> Option<bool> {
    // The number of the thread that commits the journal; there is none without a journal.
    let thread =
        std::fs::read_to_string(format!("/sys/fs/ext4/{device_name}/journal_task")).ok()?;
    Some(thread.trim().parse::<u32>().is_ok())
}

/// The mode among all options in force, the defaults included.
pub(super) fn mode_in_force(device_name: &str) -> Option<DataMode> {
    let options = std::fs::read_to_string(format!("/proc/fs/ext4/{device_name}/options")).ok()?;
    data_mode(options.lines())
}

/// The mode among the options that are shown for a mount of the device.
pub(super) fn shown_mode(device: u64) -> Option<DataMode> {
    data_mode(mount_options::of(device)?.split(','))
}

fn data_mode<'a>(mut options: impl Iterator<Item = &'a str>) -> Option<DataMode> {
    match options.find_map(|option| option.trim().strip_prefix("data="))? {
        "writeback" => Some(DataMode::Writeback),
        "ordered" | "journal" => Some(DataMode::Kept),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_found_among_all_options() {
        assert_eq!(data_mode("rw\nbarrier\ndata=writeback\n".lines()), Some(DataMode::Writeback));
        assert_eq!(data_mode("rw\ndata=ordered".lines()), Some(DataMode::Kept));
        assert_eq!(data_mode("rw\nnodelalloc".lines()), None);
    }
}
