//! `netstate show`: the lives of connections.

use std::path::Path;

use super::{
    filtering, selection,
    snapshot::{tell_unnamed, tell_whose_ids},
};
use crate::{
    cli::ShowArgs,
    client::Client,
    filter::{Filter, Subject},
    keepers,
    labels::Labels,
    namespaces::Names,
    output::{self, color::Palette, history::Histories as Printer, json},
    view::{Histories, HistoryQuery, RowQuery},
};

/// Runs the command.
pub(super) async fn run(socket: &Path, args: &ShowArgs) -> anyhow::Result<()> {
    let query = HistoryQuery {
        rows: RowQuery {
            netns: selection::netns(&args.output.netns)?,
            filter: filtering::filter("show", &words(&args.which), filtering::Known::Events)?,
            holders: true,
            figures: true,
            as_is: false,
            brief: false,
        },
        most: args.most,
    };
    let mut client = Client::connect(socket).await?;
    let filter = query.rows.filter.clone();
    let (clock, now, mut histories) = client.histories(query).await?;
    for history in histories
        .found
        .iter_mut()
        .filter(|history| history.ending.is_none())
    {
        keepers::complete(std::slice::from_mut(&mut history.row));
    }
    if let Some(filter) = filter.filter(Filter::names_holders) {
        let found = &mut histories.found;
        found.retain(|history| filter.matches(&Subject::from(&history.row)));
    }
    tell_whose_ids();
    let mut out = output::stdout();
    if args.output.json {
        let (mut names, mut labels) = (Names::read(), Labels::new());
        for history in &histories.found {
            output::written(json::history(
                &mut out,
                history,
                &mut names,
                &mut labels,
                clock,
                now,
            ))?;
        }
        tell_unnamed(labels.unanswered());
    } else {
        let mut printer = Printer::new(Palette::new(args.output.color), clock, now);
        output::written(printer.write_all(&mut out, &histories.found))?;
    }
    output::written(std::io::Write::flush(&mut out))?;
    anyhow::ensure!(!histories.found.is_empty(), "{}", nothing(args));
    if let Some(note) = more(&histories) {
        eprintln!("netstate: {note}");
    }
    Ok(())
}

/// The words of a filter: a number is a cookie, and several are any of them.
fn words(which: &[String]) -> Vec<String> {
    let numbers = which.iter().all(|word| word.parse::<u64>().is_ok());
    if !numbers {
        return which.to_vec();
    }
    let cookies = which.iter().map(|number| format!("cookie {number}"));
    vec![cookies.collect::<Vec<_>>().join(" or ")]
}

fn nothing(args: &ShowArgs) -> String {
    format!(
        "nothing is known of `{}`: no such connection since the daemon was started, or it ended so long ago that it is \
         forgotten (`netstate daemon --history` keeps more); `netstate list -a` shows what there is",
        args.which.join(" ")
    )
}

fn more(histories: &Histories) -> Option<String> {
    let shown = histories.found.len();
    (histories.more > 0).then(|| {
        let these = match shown {
            1 => "this is the one that changed last".to_owned(),
            shown => format!("these are the {shown} that changed last"),
        };
        format!(
            "{these}; {} more match: --most shows more, a longer filter fewer",
            histories.more
        )
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_number_is_a_cookie() {
        let words = |which: &[&str]| {
            let which: Vec<_> = which.iter().map(|word| (*word).to_owned()).collect();
            super::words(&which).join(" ")
        };
        assert_eq!(words(&["17"]), "cookie 17");
        assert_eq!(words(&["17", "18"]), "cookie 17 or cookie 18");
        assert_eq!(words(&["dport", "443"]), "dport 443");
        assert_eq!(words(&["10.0.0.1:80"]), "10.0.0.1:80");
    }
}
