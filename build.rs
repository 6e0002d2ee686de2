//! Link settings that a Node addon needs on each platform.

fn main() {
    #[cfg(feature = "node")]
    napi_build::setup();
}
