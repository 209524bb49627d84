//! How long each part takes of what happens to facts and rows, for 4,096 of them at a time.
//!
//! `cargo bench --package netstat-user --bench parts` times them. With `-- count PART` one is done once, for those who
//! count instructions: `cargo xtask instructions`.

#![allow(
    unused_crate_dependencies,
    reason = "they are the library's, or other benchmarks'"
)]

mod workload;

use std::env;

use divan::{Bencher, counter::ItemsCount};
use workload::parts::{ITEMS, NAMES, Part};

fn main() {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match &args[..] {
        [count, name] if count == "count" => {
            let part = Part::new(name);
            part.unwrap_or_else(|| panic!("there is no part {name}"))
                .measured();
        }
        _ => divan::main(),
    }
}

#[divan::bench(args = NAMES)]
fn part(bencher: Bencher<'_, '_>, name: &str) {
    bencher
        .counter(ItemsCount::new(ITEMS))
        .with_inputs(|| Part::new(name))
        .bench_local_values(|mut part| {
            if let Some(part) = &mut part {
                part.measured();
            }
            part
        });
}
