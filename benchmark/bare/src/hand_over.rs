//! A lock that two processes pass to each other: the time from one releasing it to the other
//! having it.
//!
//! The kernel's locks are those of holdfast's protocol: the gate, then the main lock, both
//! open-file-description locks far beyond the file's content.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::Outcome;
use crate::arguments::Arguments;

const GATE: i64 = 1 << 62;
const MAIN: i64 = (1 << 62) + 1;

/// How long each holds the lock: the other starts to wait meanwhile.
const HELD: Duration = Duration::from_millis(2);

/// `path=`, `count=` critical sections of each of two processes: the median.
pub fn run(arguments: &Arguments) -> Outcome {
    let path = arguments.text("path")?;
    let count: usize = arguments.number("count")?;
    if arguments.text("child").is_ok() {
        let own: Vec<String> = critical_sections(path, count)?.iter().map(f64::to_string).collect();
        return Ok(own.join(" "));
    }
    let child = Command::new(std::env::current_exe()?)
        .args(["hand-over", &format!("path={path}"), &format!("count={count}"), "child=1"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut all = critical_sections(path, count)?;
    let output = String::from_utf8(child.wait_with_output()?.stdout)?;
    for word in output.split_whitespace() {
        all.push(word.parse()?);
    }
    all.sort_by(f64::total_cmp);
    let median = all.get(all.len() / 2).ok_or("nothing was handed over")?;
    Ok(format!("{{\"microseconds\":{median}}}"))
}

/// The lock is in a file of its own, and so is the time of its last release.
fn critical_sections(path: &str, count: usize) -> io::Result<Vec<f64>> {
    let open = |end: &str| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).open(format!("{path}{end}"))
    };
    let (lock, released) = (open(".bare-lock")?, open(".bare-released")?);
    let own = u64::from(std::process::id());
    let mut latencies = Vec::with_capacity(count);
    for _ in 0..count {
        control(&lock, GATE, libc::F_WRLCK)?;
        control(&lock, MAIN, libc::F_WRLCK)?;
        let now = nanoseconds();
        control(&lock, GATE, libc::F_UNLCK)?;
        let (mut who, mut when) = ([0; 8], [0; 8]);
        if released.read_at(&mut who, 0)? == 8 && u64::from_le_bytes(who) != own {
            released.read_exact_at(&mut when, 8)?;
            latencies.push((now - u64::from_le_bytes(when)) as f64 / 1000.0);
        }
        thread::sleep(HELD);
        released.write_all_at(&own.to_le_bytes(), 0)?;
        released.write_all_at(&nanoseconds().to_le_bytes(), 8)?;
        control(&lock, MAIN, libc::F_UNLCK)?;
    }
    Ok(latencies)
}

fn nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn control(file: &File, offset: i64, lock_type: i32) -> io::Result<()> {
    // SAFETY: all its fields are numbers, for which zero is a value.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = lock_type as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = offset;
    range.l_len = 1;
    // SAFETY: the descriptor is open while `file` lives, and the command takes a `flock`.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLKW, &raw mut range) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
