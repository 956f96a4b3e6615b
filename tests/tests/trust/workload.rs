//! A life of a whole log on one disk that crashes at every I/O.

#[test]
fn a_disk_that_was_never_used_is_empty() {
    let disk = modelog_engine::sim::SimStorage::new(1);
    assert_eq!(disk.ios(), 0);
}
