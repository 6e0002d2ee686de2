//! How an ext file system keeps its journal, and the bytes beside it.

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
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    mode_of_mount(&String::from_utf8_lossy(&mounts), &device)
}

/// `mountinfo` has in each line: two numbers, the device, the root, the place, the mount's options,
/// optional fields, `-`, the type, the source, the file system's options.
fn mode_of_mount(mounts: &str, device: &str) -> Option<DataMode> {
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    let (_, file_system) = line.split_once(" - ")?;
    data_mode(file_system.split(' ').nth(2)?.split(','))
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

    const MOUNTS: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
41 27 7:3 / /mnt/a\\040b rw,nosuid,relatime shared:12 master:1 - ext4 /dev/loop3 rw,errors=continue,data=writeback
42 27 7:31 / /mnt/c rw - ext3 /dev/loop31 rw,data=ordered
43 27 7:4 / /mnt/d rw - ext4 /dev/loop4 ro,data=journal,nodelalloc
44 27 0:50 / /mnt/e rw - overlay data=writeback rw,lowerdir=/a,data=of,upperdir=/b
";

    #[test]
    fn the_mode_of_a_mount_is_read_from_its_own_line_and_options() {
        let mode = |device| mode_of_mount(MOUNTS, device);
        assert_eq!(mode("7:3"), Some(DataMode::Writeback));
        assert_eq!(mode("7:31"), Some(DataMode::Kept));
        assert_eq!(mode("7:4"), Some(DataMode::Kept));
        assert_eq!(mode("254:0"), None, "the super block's default is not shown");
        assert_eq!(mode("0:50"), None);
        assert_eq!(mode("9:9"), None);
        assert_eq!(mode_of_mount("nonsense\n1 2 9:9 -\n", "9:9"), None);
    }

    #[test]
    fn the_mode_is_found_among_all_options() {
        assert_eq!(data_mode("rw\nbarrier\ndata=writeback\n".lines()), Some(DataMode::Writeback));
        assert_eq!(data_mode("rw\ndata=ordered".lines()), Some(DataMode::Kept));
        assert_eq!(data_mode("rw\nnodelalloc".lines()), None);
    }
}
