//! Which statements of a query take settings back: PostgreSQL's lexical rules, on any text.

use pgvpd_core::resets::{Finder, Loss, Summary, may_reset, summarize};

use crate::chunks::Cuts;

/// Takes the cuts off the front; the rest is a query.
pub fn run(bytes: &[u8]) {
    let (cuts, text) = Cuts::split_off(bytes);
    let mut finder = Finder::default();
    let mut start = 0;
    for end in cuts.ends(text.len()) {
        finder.look(text.get(start..end).unwrap_or_default());
        start = end;
    }
    assert_eq!(finder.has_found(), may_reset(text), "pieces differ from the whole");

    let found = read(text);
    assert!(!found.resets || may_reset(text), "a reset without one of its words");
    assert!(found.resets || !(found.is_cut_off || found.is_silent), "{found:?}");
    let Ok(text) = std::str::from_utf8(text) else {
        assert!(!found.is_cut_off && !found.is_neutral, "what is not read is neither refused nor passed over");
        return;
    };

    // What stands in quotes or in a comment is no statement.
    let one_line = text.replace(['\n', '\r'], " ");
    for hidden in [
        format!("SELECT 1, '{}'", text.replace('\'', "''")),
        format!("SELECT 1, E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        format!("SELECT 1, \"{}\"", text.replace('"', "\"\"")),
        format!("SELECT 1, $fuzz${}$fuzz$", text.replace('$', " ")),
        format!("SELECT 1 /* {} */", text.replace(['*', '/'], " ")),
        format!("SELECT 1 -- {one_line}"),
    ] {
        assert!(!read(hidden.as_bytes()).resets, "{hidden:?}");
    }
    // And what stands outside of them is one, whatever surrounds it.
    for reset in ["RESET ALL;", "/* ' */ discard\nall;", "SELECT '''', $a$ ' $a$; RESET ALL;", "SET x TO DEFAULT;"] {
        assert!(read(format!("{reset}{text}").as_bytes()).resets, "{reset:?}, {text:?}");
    }
    for nothing in ["/* ; RESET ALL; */", "-- RESET ALL\n", ";;", "SELECT 1;", "SELECT '; RESET ALL';"] {
        assert_eq!(read(format!("{nothing}{text}").as_bytes()), found, "{nothing:?}, {text:?}");
    }
}

fn read(text: &[u8]) -> Summary {
    summarize(text, |_| Loss::UntilRollback)
}
