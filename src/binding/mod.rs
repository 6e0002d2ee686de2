//! What JavaScript sees: values in, values out, nothing else. The contract that users
//! read is `index.d.ts`; these functions are called by `lib/` only.

// napi's macro wants what it exports to be `pub`, though Rust code never sees it.
#![allow(unreachable_pub)]
// In unit tests the macro registers nothing, so nothing would be used.
#![cfg_attr(test, allow(dead_code))]

mod backup;
mod environment;
mod follow_handles;
mod handles;
mod js_types;
mod json;
mod limitations;
mod lines;
mod lines_handles;
mod lines_read;
mod lock;
mod lock_handles;
mod lockfile;
mod metrics;
mod path_text;
mod recovery;
mod remove;
mod streams;
mod transaction;
mod wal;
mod wal_consumer;
mod wal_follow;
mod wal_read;
mod write;
