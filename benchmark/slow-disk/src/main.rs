//! `slow-disk <mount point> <megabytes> <microseconds>`: mounts a file system with one
//! file, `disk`, which lives in memory and whose fsync takes the given time. Attached
//! as a loop device it is a disk with a volatile cache: writes are quick, and a flush
//! of the device waits.
//!
//! Prints `ready` when it is mounted. Ends when it is unmounted, or when its standard
//! input ends: then the program that wanted the disk is gone.

mod delay;
mod disk;

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use fuser::{Config, MountOption, Session};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slow-disk: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &str| arguments.next().ok_or(format!("the {name} is missing"));
    let mount_point = PathBuf::from(next("mount point")?);
    let megabytes: usize = next("size in megabytes")?.parse()?;
    let delay = Duration::from_micros(next("delay in microseconds")?.parse()?);

    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("slow-disk".into())];
    let session = Session::new(disk::Disk::new(megabytes << 20, delay), mount_point, &config)?;
    std::thread::spawn(end_with_standard_input);
    println!("ready");
    session.run()?;
    Ok(())
}

fn end_with_standard_input() {
    let mut byte = [0];
    while !matches!(std::io::stdin().read(&mut byte), Ok(0) | Err(_)) {}
    std::process::exit(1);
}
