//! What a word that is not known may have been meant as: what is spelt nearly like it.

use super::{Kind, Names, keyword};

/// Suggestions at a time.
const MOST: usize = 3;

/// How many letters may be wrong, in a word of so many.
const fn slack(letters: usize) -> usize {
    match letters {
        0..3 => 0,
        3..6 => 1,
        6..10 => 2,
        _ => 3,
    }
}

/// How far `known` is from `word`, if that is near. Upper and lower case are alike, and so are `-` and `_`.
fn distance(word: &str, known: &str) -> Option<usize> {
    let plain = |text: &str| text.to_lowercase().replace('_', "-");
    let letters = word.chars().count();
    let distance = strsim::osa_distance(&plain(word), &plain(known));
    (distance <= slack(letters)).then_some(distance)
}

/// The one that is nearest to `word`, if one is near.
pub(super) fn one(word: &str, known: impl IntoIterator<Item = String>) -> Option<String> {
    let near = known
        .into_iter()
        .filter_map(|known| Some((distance(word, &known)?, known)));
    near.min().map(|(_, known)| known)
}

/// What may be written instead of `word`, which begins no test: the nearest keywords and states, and the tests for
/// processes, services and users that are called so, or nearly.
pub(super) fn tests(word: &str, names: &dyn Names) -> Vec<String> {
    let words = keyword::words().map(|known| (distance(word, known), known.to_owned()));
    let other_names = [Kind::Process, Kind::Service, Kind::User]
        .into_iter()
        .flat_map(|kind| {
            let known = names.all(kind).into_iter();
            known.map(move |known| (distance(word, &known), kind.test(&known)))
        });
    let mut near: Vec<_> = words
        .chain(other_names)
        .filter_map(|(distance, test)| Some((distance?, test)))
        .collect();
    near.sort();
    near.dedup();
    // What is called so is meant rather than what is only like it.
    let least = near.first().map(|(distance, _)| *distance);
    near.retain(|(distance, _)| Some(*distance) == least);
    near.truncate(MOST);
    near.into_iter().map(|(_, test)| test).collect()
}

/// `a`, `b` or `c`
pub(super) fn choice(tests: &[String]) -> String {
    let quoted: Vec<_> = tests.iter().map(|test| format!("`{test}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}
