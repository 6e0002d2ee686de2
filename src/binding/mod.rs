//! What JavaScript sees: values in, values out, nothing else. The contract that users
//! read is `index.d.ts`; these functions are called by `lib/` only.

// napi's macro wants what it exports to be `pub`, though Rust code never sees it.
#![allow(unreachable_pub)]

mod backup;
mod convert;
mod holds;
mod json;
mod lock;
mod port;
mod streams;
mod write;
