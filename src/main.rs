//! argv → lib → exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tracestitch::cli::main()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    //! The library's own tests have another allocator.

    use std::hint::black_box;

    use tracestitch::memory::resident::{give_back_all, resident_bytes};

    #[test]
    fn free_pages_are_given_back_at_once() {
        let blocks: Vec<_> = (0..1024).map(|_| black_box(vec![1_u8; 64 * 1024])).collect();
        let before = resident_bytes().expect("Linux");
        drop(blocks);
        give_back_all();
        let after = resident_bytes().expect("Linux");
        assert!(before.saturating_sub(after) > 48 << 20, "{before} {after}");
    }
}
