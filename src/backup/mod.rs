//! Backups: a file copied aside, and back.
//!
//! Both directions are atomic writes whose bytes come from another file. A backup is called
//! `<name>.<milliseconds since 1970>.backup` and never takes the place of anything: a name
//! that is taken moves on by a millisecond. Its time is later than that of every backup that the file
//! has, also if the clock has been ahead: so the names say which is the newest. A name that would be too long for the file system has a
//! shortened form of the file's name in it ([`crate::short_name`]). What is copied is the file that
//! was opened, so a file that is replaced meanwhile is backed up as one version, in full; a file
//! that is changed in place may be copied in the middle of a change.
//!
//! [`create`](mod@create) makes one, unless [`reuse`] finds one that will do; [`restore`](mod@restore) brings one back; [`list`](mod@list) says which
//! are there. [`retention`] says which are kept, [`quality`] which are good, and [`history`] removes the others, of
//! one file; [`remove`](mod@remove) removes what the caller has chosen in a directory.

mod create;
mod history;
mod list;
mod names;
mod quality;
mod remove;
mod restore;
mod retention;
mod reuse;
mod run;
mod source;

pub use create::{BackupRequest, create};
pub use history::{Newest, Thinning, newest_good, thin};
pub(crate) use history::{backups_in, newest_in};
pub use list::{Backup, candidates, list};
pub use names::{name_at, time_of};
pub use quality::{Flaw, Standard};
pub use remove::remove;
pub use restore::{RestoreRequest, restore};
pub use retention::Retention;
pub use reuse::Reuse;
pub use run::{create_now, submit_create, submit_restore};
