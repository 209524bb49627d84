//! Which network namespace a command is about.

use anyhow::{Context, bail};

use crate::{cli::NetnsArg, connection::Netns, namespaces};

/// The namespace that `arg` names; `None` for all.
pub(super) fn netns(arg: &NetnsArg) -> anyhow::Result<Option<Netns>> {
    match arg {
        NetnsArg::All => Ok(None),
        NetnsArg::Own => own().map(Some),
        NetnsArg::Inode(inode) => Ok(Some(Netns(*inode))),
        NetnsArg::Name(name) => {
            let found = namespaces::names().into_iter().find(|(_, known)| known == name);
            match found {
                Some((netns, _)) => Ok(Some(netns)),
                None => bail!("there is no network namespace `{name}`; `ip netns` lists them"),
            }
        }
    }
}

/// The caller's own namespace.
pub(super) fn own() -> anyhow::Result<Netns> {
    namespaces::own().context("cannot tell the network namespace; is /proc mounted?")
}
