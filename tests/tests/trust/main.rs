//! What the log promises, held against crashes, failing disks and unlikely orders of things.

mod workload;
