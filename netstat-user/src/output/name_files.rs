//! Names that files of this machine list: to find out what an unknown word was meant as, and for hosts, of which others
//! are not asked.

use std::{fs, net::IpAddr, path::Path};

/// All names of TCP services in a file such as `/etc/services`, their other names too.
#[must_use]
pub fn services(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let names = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (name, place) = (words.next()?, words.next()?);
        let names = std::iter::once(name).chain(words);
        place.ends_with("/tcp").then_some(names)
    });
    names.flatten().map(str::to_owned).collect()
}

/// The addresses that a file such as `/etc/hosts` has for a name.
#[must_use]
pub fn addresses(file: &Path, host: &str) -> Vec<IpAddr> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut addresses: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|name| name.eq_ignore_ascii_case(host))
                .then_some(address)
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// All users in a file such as `/etc/passwd`.
#[must_use]
pub fn users(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let names = text.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_libc_does() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("services");
        fs::write(
            &file,
            "# comment\nhttp 80/tcp www # web\ndomain\t53/udp\nother 80/tcp\nbad line\n",
        )
        .unwrap();
        assert_eq!(services(&file), ["http", "www", "other"]);
        let file = folder.path().join("hosts");
        fs::write(
            &file,
            "127.0.0.1 localhost # here\n::1 ip6-localhost localhost\nbad localhost\n",
        )
        .unwrap();
        let both: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(addresses(&file, "LOCALHOST"), both);
        assert_eq!(addresses(&file, "ip6-localhost"), both[1..]);
        assert!(addresses(&file, "elsewhere").is_empty());
        let file = folder.path().join("passwd");
        fs::write(&file, "root:x:0:0:root:/root:/bin/sh\nbroken\nwww:x:33:33::/:\n").unwrap();
        assert_eq!(users(&file), ["root", "www"]);
        assert!(services(Path::new("/nonexistent")).is_empty());
    }
}
