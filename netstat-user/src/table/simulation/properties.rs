//! What holds for every history.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::world::World;
use crate::{
    connection::Cookie,
    table::{Settlement, Source, Transition},
    tcp::TcpState::{self, Close},
};

/// Each connection's steps join: none begins elsewhere than the one before has ended.
fn assert_joined(transitions: &[Transition]) {
    let mut last: BTreeMap<Cookie, TcpState> = BTreeMap::new();
    for step in transitions {
        let before = last.insert(step.connection.cookie, step.to);
        if let (Some(before), Some(from)) = (before, step.from)
            && before != Close
        {
            assert_eq!(before, from, "{step:?}");
        }
    }
}

/// A RST is told as what it was.
fn assert_resets(world: &World) {
    for step in world.transitions.iter().filter(|step| step.to == Close) {
        if let Some(reason) = world.resets.get(&step.time) {
            assert_eq!(step.reason, Some(*reason), "{step:?}");
        }
    }
}

fn ops() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    prop::collection::vec((0..14_u8, any::<u8>(), any::<u8>()), 0..300)
}

proptest! {
    #[test]
    fn the_table_ends_as_the_kernel_is(ops in ops(), old_kernel: bool) {
        let mut world = World { old_kernel, ..World::default() };
        for (op, which, count) in ops {
            world.step(op, which, count);
            world.assert_full_socks();
        }
        world.settle();
        let (table, kernel) = world.both();
        prop_assert_eq!(table, kernel);
        assert_joined(&world.transitions);
        assert_resets(&world);
        prop_assert!(world.table.departed.is_empty());
    }

    #[test]
    fn with_hooks_the_table_is_as_the_kernel_at_every_moment(ops in ops(), old_kernel: bool) {
        let mut world = World { old_kernel, ..World::hooked() };
        for (op, which, count) in ops {
            world.step(op, which, count);
            world.assert_all();
        }
        prop_assert!(world.transitions.iter().all(|step| step.source == Source::Event));
        world.settle();
        let (table, kernel) = world.both();
        prop_assert_eq!(table, kernel);
        assert_joined(&world.transitions);
        assert_resets(&world);
    }

    #[test]
    fn what_is_lost_is_made_good_by_sweeps(
        ops in ops(),
        deaf in prop::collection::vec(any::<bool>(), 300),
        hooked: bool,
    ) {
        let mut world = if hooked { World::hooked() } else { World::default() };
        for ((op, which, count), deaf) in ops.into_iter().zip(deaf) {
            world.deaf = deaf;
            world.step(op, which, count);
        }
        world.deaf = false;
        world.settle();
        let (table, kernel) = world.both();
        prop_assert_eq!(table, kernel);
    }

    #[test]
    fn what_is_counted_is_what_is_there(ops in ops(), hooked: bool) {
        let mut world = if hooked { World::hooked() } else { World::default() };
        for (op, which, count) in ops {
            world.step(op, which, count);
            let table = &world.table;
            for state in TcpState::ALL {
                let rows = table.rows().filter(|row| row.state == state).count();
                prop_assert_eq!(table.by_state()[state.index()], rows);
            }
            let waiting = |what| table.rows().filter(|row| row.settlement(table.coverage()) == what).count();
            prop_assert_eq!(table.namespaces().count(), usize::from(!table.is_empty()));
            let unsettled = table.rows().any(|row| row.settlement(table.coverage()) != Settlement::Settled);
            prop_assert_eq!(table.unsettled_namespaces().count(), usize::from(unsettled));
            let ownerless = table.rows().filter(|row| row.is_ownerless()).count();
            prop_assert_eq!(table.ownerless(), ownerless);
            prop_assert_eq!(table.unsettled().urgent, waiting(Settlement::Urgent));
            prop_assert_eq!(table.unsettled().lingering, waiting(Settlement::Lingering));
            let mut parts = 0;
            let mut place = 0;
            while let Some(part) = table.part(place, 3) {
                parts += part.count();
                place += 3;
            }
            prop_assert_eq!(parts, table.len());
        }
    }
}
