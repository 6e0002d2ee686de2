//! The options of file systems that are mounted, as the kernel shows them. What is a default is not shown.

/// Those of the file system on a device, separated by commas.
pub(super) fn of(device: u64) -> Option<String> {
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    of_line(&String::from_utf8_lossy(&mounts), &device).map(str::to_owned)
}

/// `mountinfo` has in each line: two numbers, the device, the root, the place, the mount's options,
/// optional fields, `-`, the type, the source, the file system's options.
fn of_line<'a>(mounts: &'a str, device: &str) -> Option<&'a str> {
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    let (_, file_system) = line.split_once(" - ")?;
    file_system.split(' ').nth(2)
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
    fn are_read_from_the_line_of_the_device() {
        let options = |device| of_line(MOUNTS, device);
        assert_eq!(options("7:3"), Some("rw,errors=continue,data=writeback"));
        assert_eq!(options("7:31"), Some("rw,data=ordered"));
        assert_eq!(options("7:4"), Some("ro,data=journal,nodelalloc"));
        assert_eq!(options("254:0"), Some("rw,discard"));
        assert_eq!(options("0:50"), Some("rw,lowerdir=/a,data=of,upperdir=/b"));
        assert_eq!(options("9:9"), None);
        assert_eq!(of_line("nonsense\n1 2 9:9 -\n", "9:9"), None);
    }
}
