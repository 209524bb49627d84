//! Which network namespace a command is about.

use anyhow::{Context, bail};

use crate::{
    cli::NetnsArg,
    connection::Netns,
    namespaces::{self, Names},
};

/// The namespace that `arg` names; `None` for all.
pub(super) fn netns(arg: &NetnsArg) -> anyhow::Result<Option<Netns>> {
    match arg {
        NetnsArg::All => Ok(None),
        NetnsArg::Own => own().map(Some),
        // A name may be a number, too.
        NetnsArg::Inode(inode) => Ok(Some(
            Names::read().named(&inode.to_string()).unwrap_or(Netns(*inode)),
        )),
        NetnsArg::Path(path) => {
            let found = namespaces::identify_file(path);
            let context = || format!("cannot take {} for a network namespace", path.display());
            found.map(Some).with_context(context)
        }
        NetnsArg::Name(name) => {
            let names = Names::read();
            match names.named(name) {
                Some(netns) => Ok(Some(netns)),
                None => bail!("there is no network namespace `{name}`; {}", told(&names)),
            }
        }
    }
}

/// The names that there are.
fn told(names: &Names) -> String {
    let all = names.all();
    if all.is_empty() {
        return "`ip netns` has given no names: use the inode number, which `lsns -t net` shows, or a path such \
                as /proc/PID/ns/net"
            .to_owned();
    }
    let known: Vec<_> = all
        .iter()
        .map(|name| format!("`{}`", name.escape_debug()))
        .collect();
    format!("`ip netns` knows {}", known.join(", "))
}

/// The caller's own namespace.
pub(super) fn own() -> anyhow::Result<Netns> {
    namespaces::own().context("cannot tell the network namespace; is /proc mounted?")
}
