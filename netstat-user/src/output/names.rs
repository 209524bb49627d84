//! Names for numbers: services out of `/etc/services`, hosts out of the resolver, users out of `/etc/passwd`.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

/// The longest that names may hold up an answer. What is not known by then is shown as a number.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Resolvers at work at once.
const WORKERS: usize = 16;

/// Names of TCP services by port.
#[must_use]
pub fn services(file: &Path) -> HashMap<u16, String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut services = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let (Some(name), Some(place)) = (words.next(), words.next()) else {
            continue;
        };
        if let Some(port) = place.strip_suffix("/tcp").and_then(|port| port.parse().ok()) {
            // As getservbyport: the first line wins.
            services.entry(port).or_insert_with(|| name.to_owned());
        }
    }
    services
}

/// The port of a TCP service, by its name or another that it goes by.
#[must_use]
pub fn port(file: &Path, service: &str) -> Option<u16> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (name, place) = (words.next()?, words.next()?);
        let port = place.strip_suffix("/tcp")?.parse().ok()?;
        let mut names = std::iter::once(name).chain(words);
        names
            .any(|name| name.eq_ignore_ascii_case(service))
            .then_some(port)
    })
}

/// Names of users by id.
#[must_use]
pub fn users(file: &Path) -> HashMap<u32, String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut users = HashMap::new();
    for (name, uid) in text.lines().filter_map(user) {
        users.entry(uid).or_insert_with(|| name.to_owned());
    }
    users
}

/// The id of the user of this name.
#[must_use]
pub fn uid(file: &Path, name: &str) -> Option<u32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut users = text.lines().filter_map(user);
    users.find(|(known, _)| *known == name).map(|(_, uid)| uid)
}

/// The name and id in a line of `/etc/passwd`.
fn user(line: &str) -> Option<(&str, u32)> {
    let mut fields = line.split(':');
    Some((fields.next()?, fields.nth(1)?.parse().ok()?))
}

/// Asks the resolver for the names of `addresses`, several at once, and returns those that it has told within
/// [`PATIENCE`]. A resolver that answers later does so to nobody.
#[must_use]
pub fn hosts(addresses: impl IntoIterator<Item = IpAddr>) -> HashMap<IpAddr, String> {
    let deadline = Instant::now() + PATIENCE;
    let addresses: HashSet<_> = addresses.into_iter().collect();
    let workers = addresses.len().min(WORKERS);
    let queue = Arc::new(Mutex::new(addresses.into_iter().collect::<Vec<_>>()));
    let (found, names) = mpsc::channel();
    for _ in 0..workers {
        let (queue, found) = (Arc::clone(&queue), found.clone());
        thread::spawn(move || {
            while let Some(address) = next(&queue, deadline) {
                if let Ok(name) = dns_lookup::lookup_addr(&address)
                    && found.send((address, name)).is_err()
                {
                    return;
                }
            }
        });
    }
    drop(found);
    let mut hosts = HashMap::new();
    while let Ok((address, name)) = names.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        hosts.insert(address, name);
    }
    // The resolver gives the address back where it has no name.
    hosts.retain(|address, name| *name != address.to_string());
    hosts
}

fn next(queue: &Mutex<Vec<IpAddr>>, deadline: Instant) -> Option<IpAddr> {
    if Instant::now() >= deadline {
        return None;
    }
    queue.lock().ok()?.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_and_users_are_read_as_libc_does() {
        let folder = std::env::temp_dir().join(format!("netstate-names-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("services");
        fs::write(&file, "# comment\nhttp 80/tcp www # web\nhttp 80/udp\ndomain\t53/udp\nother 80/tcp\nbad line\nx 99999/tcp\n")
            .unwrap();
        assert_eq!(services(&file), HashMap::from([(80, "http".to_owned())]));
        assert_eq!(port(&file, "http"), Some(80));
        assert_eq!(port(&file, "WWW"), Some(80));
        assert_eq!(port(&file, "domain"), None);
        let file = folder.join("passwd");
        let text = "root:x:0:0:root:/root:/bin/sh\nbroken\nwww:x:33:33::/:\nweb:x:33:33::/:\n";
        fs::write(&file, text).unwrap();
        assert_eq!(
            users(&file),
            HashMap::from([(0, "root".to_owned()), (33, "www".to_owned())])
        );
        assert_eq!(
            ["root", "web", "broken"].map(|name| uid(&file, name)),
            [Some(0), Some(33), None]
        );
        assert!(services(Path::new("/nonexistent")).is_empty());
        fs::remove_dir_all(&folder).unwrap();
    }
}
