//! A disk with a volatile cache, in user space: a file system with one file, `disk`, to be
//! attached as a loop device. A write is in the cache once it is answered, and a flush of the
//! device reaches this program as an fsync of the file.
//!
//! - `disk slow <mount point> <megabytes> <microseconds>`: a flush takes the given time.
//! - `disk record <mount point> <megabytes>`: every write and flush is recorded, and the disk
//!   can be set to a state that a power cut at any of them may leave; see [`commands`].
//!
//! Prints `ready` when it is mounted. Ends when it is unmounted, or when its standard
//! input ends, with the parent process.

mod commands;
mod delay;
mod file_system;
mod pages;
mod recorder;
mod slow;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use fuser::{Config, MountOption, Session};

use file_system::{Disk, Storage};
use recorder::Recorder;
use slow::Slow;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("disk: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &str| arguments.next().ok_or(format!("the {name} is missing"));
    let kind = next("kind")?;
    let mount_point = PathBuf::from(next("mount point")?);
    let size = next("size in megabytes")?.parse::<usize>()? << 20;
    match kind.as_str() {
        "slow" => {
            let delay = Duration::from_micros(next("delay in microseconds")?.parse()?);
            let session = mount(Slow::new(size, delay), size, mount_point)?;
            std::thread::spawn(commands::await_end);
            serve(session)
        }
        "record" => {
            let recorder = Arc::new(Recorder::default());
            let session = mount(Arc::clone(&recorder), size, mount_point)?;
            std::thread::spawn(move || commands::serve(&recorder));
            serve(session)
        }
        other => Err(format!("{other}: known are slow and record").into()),
    }
}

fn mount<S: Storage>(
    storage: S,
    size: usize,
    at: PathBuf,
) -> Result<Session<Disk<S>>, std::io::Error> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("disk".into())];
    Session::new(Disk::new(storage, size), at, &config)
}

fn serve<S: Storage>(session: Session<Disk<S>>) -> Result<(), Failure> {
    println!("ready");
    Ok(session.run()?)
}
