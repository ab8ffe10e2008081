//! argv → lib → exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tracestitch::cli::main()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    //! The library's own tests have another allocator.

    use std::{hint::black_box, thread, time::Duration};

    use tracestitch::{
        clock,
        memory::resident::{give_back, resident_bytes},
    };

    fn resident_mib() -> u64 {
        resident_bytes().expect("Linux") >> 20
    }

    /// Resident with 64 MiB in use that are free now.
    fn burst() -> u64 {
        let blocks: Vec<_> = (0..1024).map(|_| black_box(vec![1_u8; 64 * 1024])).collect();
        let full = resident_mib();
        drop(blocks);
        full
    }

    // One test, for there is one process.
    #[test]
    fn free_pages_are_given_back_by_themselves_and_at_once_when_asked_for() {
        let full = burst();
        // Half of 10 s, as the allocator does it.
        let late = clock::now() + Duration::from_mins(1);
        while full.saturating_sub(resident_mib()) < 32 {
            assert!(clock::now() < late, "{full} {}", resident_mib());
            thread::park_timeout(Duration::from_millis(50));
        }
        let full = burst();
        give_back();
        let left = resident_mib();
        assert!(full.saturating_sub(left) > 48, "{full} {left}");
    }
}
