//! What the path of a control group tells: the systemd unit, the container and the pod that made it.
//!
//! Pure, and takes any text. What is no name that one of the runtimes below gives is left unknown.

use std::fmt;

use serde::Serialize;

use crate::connection::Printable;

/// Who runs in a control group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// The unit of the system's service manager.
    pub unit: Option<String>,
    /// The unit of a user's own service manager, which itself is a unit of the system's.
    pub user_unit: Option<String>,
    /// The innermost container.
    pub container: Option<Container>,
    /// The uid of the Kubernetes pod.
    pub pod: Option<String>,
}

impl Placement {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Container {
    /// What runs it, where the path tells.
    pub runtime: Option<Runtime>,
    /// Its id; with LXC its name.
    pub id: String,
}

impl fmt::Display for Container {
    /// The runtime, and as much of the id as the runtimes' own tools show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 12;
        if let Some(runtime) = self.runtime {
            write!(f, "{} ", runtime.name())?;
        }
        let end = self
            .id
            .char_indices()
            .nth(SHOWN)
            .map_or(self.id.len(), |(end, _)| end);
        write!(f, "container {}", Printable(&self.id.as_bytes()[..end]))
    }
}

/// What runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// Docker.
    Docker,
    /// containerd, by Kubernetes or nerdctl.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman.
    Podman,
    /// LXC.
    Lxc,
}

impl Runtime {
    const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
            Self::Lxc => "lxc",
        }
    }
}

/// How runtimes begin the names of the groups that they make, with the container's id behind it.
const PREFIXES: [(&str, Runtime); 7] = [
    ("docker-", Runtime::Docker),
    ("cri-containerd-", Runtime::Containerd),
    ("containerd-", Runtime::Containerd),
    ("nerdctl-", Runtime::Containerd),
    ("crio-", Runtime::CriO),
    ("libpod-payload-", Runtime::Podman),
    ("libpod-", Runtime::Podman),
];

/// The types of units that have control groups, slices aside, which hold others.
const UNIT_TYPES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// Reads the path of a control group.
#[must_use]
pub fn parse(path: &str) -> Placement {
    let parts = || path.split('/').filter(|part| !part.is_empty()).map(unescaped);
    let mut placement = Placement::default();
    (placement.unit, placement.user_unit) = units(parts());
    let mut above = "";
    for part in parts() {
        if let Some(pod) = pod(part) {
            placement.pod = Some(pod);
        }
        if let Some(container) = container(part, above) {
            placement.container = Some(container);
        }
        above = part;
    }
    placement
}

/// systemd puts an underscore before names that the kernel could take for its own files (`cg_escape`).
fn unescaped(part: &str) -> &str {
    part.strip_prefix('_').unwrap_or(part)
}

/// The first unit behind the slices (`cg_path_get_unit`); and behind a user's service manager, the first of its own
/// (`cg_path_get_user_unit`).
fn units<'a>(parts: impl Iterator<Item = &'a str>) -> (Option<String>, Option<String>) {
    let mut parts = parts.skip_while(|part| is_slice(part)).peekable();
    let Some(unit) = parts.next().filter(|part| is_unit(part)) else {
        return (None, None);
    };
    let manager = unit.starts_with("user@") && unit.strip_suffix(".service").is_some();
    let mut own = parts.skip_while(|part| is_slice(part));
    let own = own.next().filter(|part| manager && is_unit(part));
    (Some(unit.to_owned()), own.map(str::to_owned))
}

fn is_slice(part: &str) -> bool {
    part.strip_suffix(".slice").is_some()
}

fn is_unit(part: &str) -> bool {
    let named = |suffix| part.strip_suffix(suffix).is_some_and(|name| !name.is_empty());
    UNIT_TYPES.into_iter().any(named)
}

fn container(part: &str, above: &str) -> Option<Container> {
    let lxc = |name: &str| (!name.is_empty()).then(|| named(Some(Runtime::Lxc), name));
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return lxc(name);
    }
    if above == "lxc" || above == "lxc.payload" {
        return lxc(part);
    }
    // containerd, told to use systemd's names where there is no systemd: `SLICE:cri-containerd:ID`.
    if let Some((prefix, id)) = part.rsplit_once(':') {
        let containerd = prefix.ends_with(":cri-containerd") && is_id(id);
        return containerd.then(|| named(Some(Runtime::Containerd), id));
    }
    let name = part.strip_suffix(".scope").unwrap_or(part);
    if is_id(name) {
        return Some(named((above == "docker").then_some(Runtime::Docker), name));
    }
    let by_prefix = |(prefix, runtime): (&str, Runtime)| {
        let id = name.strip_prefix(prefix).filter(|id| is_id(id))?;
        Some(named(Some(runtime), id))
    };
    PREFIXES.into_iter().find_map(by_prefix)
}

fn named(runtime: Option<Runtime>, id: &str) -> Container {
    Container {
        runtime,
        id: id.to_owned(),
    }
}

/// Whether this is a container's id: 256 bits.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `podUID`, or `kubepods-CLASS-podUID.slice` with the UID's dashes as underscores.
fn pod(part: &str) -> Option<String> {
    let slice = part.split(':').next().unwrap_or(part).strip_suffix(".slice");
    let uid = match slice {
        Some(name) => name.contains("kubepods").then(|| name.rsplit_once("-pod"))??.1,
        None => part.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = uid.bytes().filter(|&byte| byte == b'-').count();
    // A pod that the kubelet has out of a file has a hash, which is written without dashes.
    (digits == 32 && (dashes == 4 || dashes == 0) && digits + dashes == uid.len()).then_some(uid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
    const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    const UID: &str = "b5f6c1f0-1c2d-4e3f-8a9b-0c1d2e3f4a5b";
    const HASH: &str = "5a3f2c1e0b9d8c7a6f5e4d3c2b1a0f9e";

    /// What a path tells, in one line: `unit user_unit runtime/id pod`.
    fn told(path: &str) -> String {
        let path = path.replace("UID_", &UID.replace('-', "_"));
        let path = path.replace("UID", UID).replace("HASH", HASH);
        let Placement {
            unit,
            user_unit,
            container,
            pod,
        } = parse(&path.replace("OTHER", OTHER).replace("ID", ID));
        let container = container.map(|Container { runtime, id }| {
            let runtime = runtime.map_or("null", Runtime::name);
            format!("{runtime}/{id}")
        });
        let all = [unit, user_unit, container, pod].map(|text| text.unwrap_or("-".to_owned()));
        let line = all.join(" ").replace(ID, "ID").replace(OTHER, "OTHER");
        line.replace(UID, "UID").replace(HASH, "HASH")
    }

    const IN_THE_WORLD: &[(&str, &str)] = &[
        ("", "- - - -"),
        ("/", "- - - -"),
        ("/init.scope", "init.scope - - -"),
        ("/system.slice/nginx.service", "nginx.service - - -"),
        (
            "/system.slice/system-getty.slice/getty@tty1.service",
            "getty@tty1.service - - -",
        ),
        (
            "/system.slice/dev-disk-by\\x2dlabel-x.swap",
            "dev-disk-by\\x2dlabel-x.swap - - -",
        ),
        ("/system.slice/_cpu.service", "cpu.service - - -"),
        (
            "/system.slice/postgresql.service/worker",
            "postgresql.service - - -",
        ),
        (
            "/user.slice/user-1000.slice/session-3.scope",
            "session-3.scope - - -",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-x.scope",
            "user@1000.service app-gnome-x.scope - -",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/init.scope",
            "user@1000.service init.scope - -",
        ),
        ("/docker/ID", "- - docker/ID -"),
        ("/system.slice/docker-ID.scope", "docker-ID.scope - docker/ID -"),
        (
            "/system.slice/docker-ID.scope/system.slice/nginx.service",
            "docker-ID.scope - docker/ID -",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope",
            "user@1000.service docker-ID.scope docker/ID -",
        ),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/cri-containerd-ID.scope",
            "cri-containerd-ID.scope - containerd/ID UID",
        ),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_.slice/crio-ID.scope",
            "crio-ID.scope - cri-o/ID UID",
        ),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_.slice/crio-conmon-ID.scope",
            "crio-conmon-ID.scope - - UID",
        ),
        (
            "/kubepods.slice/kubepods-podUID_.slice/docker-ID.scope",
            "docker-ID.scope - docker/ID UID",
        ),
        (
            "/kubepods.slice/kubepods-podHASH.slice/docker-ID.scope",
            "docker-ID.scope - docker/ID HASH",
        ),
        ("/kubepods/burstable/podUID/ID", "- - null/ID UID"),
        ("/kubepods/besteffort/podUID/ID", "- - null/ID UID"),
        ("/kubepods/podUID/crio-ID", "- - cri-o/ID UID"),
        (
            "/system.slice/containerd.service/kubepods-burstable-podUID_.slice:cri-containerd:ID",
            "containerd.service - containerd/ID UID",
        ),
        (
            "/docker/OTHER/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_.slice/cri-containerd-ID.scope",
            "- - containerd/ID UID",
        ),
        ("/default/ID", "- - null/ID -"),
        (
            "/system.slice/nerdctl-ID.scope",
            "nerdctl-ID.scope - containerd/ID -",
        ),
        (
            "/machine.slice/libpod-ID.scope/container",
            "libpod-ID.scope - podman/ID -",
        ),
        (
            "/machine.slice/libpod-conmon-ID.scope",
            "libpod-conmon-ID.scope - - -",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            "user@1000.service libpod-ID.scope podman/ID -",
        ),
        ("/libpod_parent/libpod-ID", "- - podman/ID -"),
        (
            "/system.slice/web.service/libpod-payload-ID",
            "web.service - podman/ID -",
        ),
        ("/lxc.payload.web-1/system.slice/nginx.service", "- - lxc/web-1 -"),
        ("/lxc/web", "- - lxc/web -"),
        ("/ecs/HASH/ID", "- - null/ID -"),
        ("/../../system.slice/nginx.service", "- - - -"),
        ("/process_api/HASH", "- - - -"),
        ("/system.slice/docker-abc.scope", "docker-abc.scope - - -"),
        ("/podman/podcast", "- - - -"),
    ];

    #[test]
    fn paths_as_they_are_in_the_world() {
        for (path, expected) in IN_THE_WORLD {
            assert_eq!(told(path), *expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_path(path in any::<String>()) {
            let _ = parse(&path);
        }

        #[test]
        fn what_is_told_is_part_of_the_path(
            parts in prop::collection::vec("(kubepods|-|pod|_|docker|lxc|libpod|cri-containerd|[0-9a-f]{32}|:|\\.scope|\\.slice|\\.service|user@|/){0,4}", 0..6),
        ) {
            let path = parts.join("/");
            let placement = parse(&path);
            prop_assert!(placement.unit.is_none_or(|unit| path.contains(&unit)));
            prop_assert!(placement.container.is_none_or(|container| path.contains(&container.id)));
            prop_assert!(placement.pod.is_none_or(|pod| path.replace('_', "-").contains(&pod)));
        }
    }
}
