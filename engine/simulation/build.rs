//! Says that the engine is compiled with simulated threads.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=simulated_threads");
}
