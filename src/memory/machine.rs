//! How much memory there is: the cgroup's limit, or the machine's.

use std::fs;

/// Where nothing can be read, half of what small machines have.
const FALLBACK_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Memory this process may use, in bytes.
pub fn memory_bytes() -> u64 {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let cgroup = limit_files(&own);
    let cgroup = cgroup.iter().filter_map(|path| fs::read_to_string(path).ok());
    // "max" is no number; cgroup v1 writes a number beyond any machine.
    let cgroup = cgroup.filter_map(|text| text.trim().parse::<u64>().ok()).min();
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| told(&text, "MemTotal"));
    cgroup.into_iter().chain(machine).min().unwrap_or(FALLBACK_BYTES)
}

/// Where limits may stand: in this process' cgroup (a systemd unit's `MemoryMax`) and all above it.
fn limit_files(own: &str) -> Vec<String> {
    let v2 = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let mut files = vec!["/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned()];
    let mut path = v2.trim_end_matches('/');
    loop {
        files.push(format!("/sys/fs/cgroup{path}/memory.max"));
        match path.rsplit_once('/') {
            Some((parent, _)) => path = parent,
            None => return files,
        }
    }
}

/// Bytes that a line of a file below /proc tells, as in `MemTotal:   24000 kB`.
pub(super) fn told(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: u64 = lines.next()?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_machine_has_memory() {
        assert_eq!(super::told("Foo: 1\nMemTotal:       24000 kB\n", "MemTotal"), Some(24_576_000));
        assert!(super::memory_bytes() > 1 << 20);
        let files = super::limit_files("1:name=x:/y\n0::/system.slice/t.service\n");
        let expected = ["/system.slice/t.service", "/system.slice", ""];
        assert_eq!(files[1..], expected.map(|path| format!("/sys/fs/cgroup{path}/memory.max")));
    }
}
