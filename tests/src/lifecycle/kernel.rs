//! What the kernel at hand can do, of what not every kernel can.

use socket2::{Domain, Protocol, Socket, Type};

use super::{destroy::Destroyer, sys};
use crate::Namespace;

/// What can be asked of this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernel {
    /// `CONFIG_MPTCP`, and not switched off.
    pub(super) mptcp: bool,
    /// `CONFIG_INET_DIAG_DESTROY`.
    pub(super) destroy: bool,
}

impl Kernel {
    /// Tries everything inside `namespace`.
    #[must_use]
    pub(super) fn probe(namespace: &Namespace) -> Self {
        let protocol = Protocol::from(sys::IPPROTO_MPTCP);
        namespace.enter(|| Self {
            mptcp: Socket::new(Domain::IPV4, Type::STREAM, Some(protocol)).is_ok(),
            destroy: Destroyer::new().is_ok_and(|destroyer| destroyer.works()),
        })
    }
}
