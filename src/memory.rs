//! Memory that was needed once.

use nix::libc;

/// Gives the kernel back what the start, or a burst of work, has left behind: free memory that the allocator keeps, and
/// pages of programs and libraries that were run once. Those stay in the page cache, from where the few that are needed
/// again come back without a read. An idle sidecar is several megabytes smaller for it.
pub(crate) fn give_back() {
    trim();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, end) in maps.lines().filter_map(untouched) {
        // SAFETY: the range is a whole mapping of a file that is never written to, in memory or on disk: what is dropped
        // comes back the same from the file when it is next looked at. That it fails would change nothing.
        #[expect(unsafe_code, reason = "there is no safe way to drop pages of one's own")]
        unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED);
        }
    }
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: the function touches nothing but what the allocator holds free, under the allocator's own locks.
    #[expect(unsafe_code, reason = "the allocator is the C library's")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}

/// The range of a mapping of a program's or library's file, if the loader has not changed it: code, and the constants
/// that come before it in the file. What the loader has filled in with addresses comes later and is left alone.
fn untouched(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let path = fields.nth(2)?;
    let offset = u64::from_str_radix(offset, 16).ok()?;
    let unchanged = permissions == "r-xp" || (permissions == "r--p" && offset == 0);
    let (start, end) = range.split_once('-')?;
    let number = |hex| usize::from_str_radix(hex, 16).ok();
    Some((number(start)?, number(end)?)).filter(|_| unchanged && path.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_loader_leaves_alone_is_dropped() {
        let line = |permissions: &str, offset: &str, path: &str| {
            untouched(&format!("1000-3000 {permissions} {offset} fe:00 3279 {path}"))
        };
        assert_eq!(line("r-xp", "00c8d000", "/usr/bin/isthmus"), Some((0x1000, 0x3000)));
        assert_eq!(line("r--p", "00000000", "/usr/bin/isthmus"), Some((0x1000, 0x3000)));
        assert_eq!(line("r--p", "035ba000", "/usr/bin/isthmus"), None, "relocated, then protected");
        assert_eq!(line("rw-p", "00000000", "/usr/bin/isthmus"), None);
        assert_eq!(line("r-xp", "00000000", "[vdso]"), None);
        assert_eq!(untouched("1000-3000 rw-p 00000000 00:00 0"), None);
    }

    #[test]
    fn life_goes_on_with_what_was_given_back() {
        let before: Vec<String> = (0..1000).map(|n| format!("line {n}")).collect();
        give_back();
        assert!(before.iter().enumerate().all(|(n, line)| *line == format!("line {n}")));
    }
}
