//! `pgvpd man`: the manual page, made from the same definition as `--help`, with what a page has beyond it.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use pgvpd_core::config::OPTIONS;

use crate::args;
use crate::exit::Outcome;
use crate::output;

const SYNOPSIS: &str = "\
pgvpd [--config FILE] [OPTIONS]
pgvpd --check-config [--config FILE] [OPTIONS]
pgvpd check [-d CONNINFO] [--app-role NAME] [--tenant-column NAME] [--format FORMAT] [--fail-on SEVERITY] [--ignore ID[:OBJECT]]
pgvpd demo [--once] [--port PORT] [--pg-bindir DIR] [--install]
pgvpd init [-d CONNINFO] [--config FILE] [--app-password-file FILE] [--dry-run]
pgvpd key rotate|install|list [-d CONNINFO] --config FILE
pgvpd protect [-d CONNINFO] [--column NAME] [--variable NAME] [--dry-run] TABLE...
pgvpd resolve [-d DBNAME] [--config FILE] USER
pgvpd top [--config FILE] [--url URL] [--interval SECONDS] [--once]
pgvpd completions SHELL
pgvpd man";

/// What a section is made of.
enum Part {
    Text(&'static str),
    Term(&'static str, &'static str),
    Code(&'static str),
}

use Part::{Code, Term, Text};

const DESCRIPTION: &[Part] = &[Text(
    "pgvpd is a proxy before PostgreSQL that makes tenant identity part of the database connection. A client logs in \
     as app_user.acme; pgvpd logs in to PostgreSQL as app_user, sets the tenant's context, has PostgreSQL confirm it, \
     and only then tells the client that the session is ready. Row-level security does the rest. Every error on the \
     way ends the connection: no context, no data.",
)];

/// The sections behind the options and commands.
const SECTIONS: &[(&str, &[Part])] = &[
    (
        "ENVIRONMENT",
        &[
            Text(
                "Each option has the variable that stands with it above. A flag wins over it, and it wins over the file.",
            ),
            Term("PGVPD_CONFIG", "The configuration file, where --config does not name one."),
            Term(
                "PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGOPTIONS, PGCONNECT_TIMEOUT",
                "For pgvpd check, init, key and protect: as for psql, what --database does not say.",
            ),
            Term("PGVPD_PG_BINDIR", "For pgvpd demo: PostgreSQL's program directory."),
            Term("PGVPD_CACHE_DIR", "For pgvpd demo: where a PostgreSQL that had to be fetched is kept."),
            Text(
                "A variable that begins with PGVPD_ and looks like a misspelt option, or like one of a later release, is \
                 refused, since to ignore it could fail open.",
            ),
        ],
    ),
    (
        "FILES",
        &[
            Text("No file is read that is not named by --config or PGVPD_CONFIG."),
            Term(
                "pgvpd.conf",
                "One `name = value` a line, names as those of the flags with underscores for dashes. A line whose first \
                 character is # is a comment; a # behind a value belongs to the value.",
            ),
            Term(".s.PGSQL.<port>", "The socket in the directory that --listen-unix-dir names."),
        ],
    ),
    (
        "SIGNALS",
        &[
            Term(
                "SIGTERM, SIGINT",
                "Stops the proxy: no new clients, and open sessions may go on for --shutdown-timeout. A second one ends \
                 them at once.",
            ),
            Term(
                "SIGHUP",
                "Reads the file again. New logins follow the new configuration, open sessions keep the one they began \
                 with. If anything is wrong with the new one, the log says so and the old one stays.",
            ),
        ],
    ),
    (
        "EXIT STATUS",
        &[
            Term("0", "Done. For the proxy: stopped as it was told to."),
            Term(
                "1",
                "Something failed. For pgvpd demo: the isolation did not hold, or it could not be shown. For pgvpd check: something was found.",
            ),
            Term("2", "The command line or the configuration is not valid."),
            Term(
                "3",
                "The proxy could not start: an address is taken, not of this machine, or cannot be resolved. For pgvpd check: the database could not be looked at.",
            ),
            Term("128 + n", "A second signal, number n, ended it at once."),
        ],
    ),
    (
        "EXAMPLES",
        &[
            Text("See tenant isolation at work, with no set-up:"),
            Code("pgvpd demo"),
            Text("Install pgvpd in a database, protect two tables of it, and run:"),
            Code("pgvpd init -d shop\npgvpd protect -d shop orders customers\npgvpd --config pgvpd.conf"),
            Text("Run before a PostgreSQL on another machine, and log in through it:"),
            Code(
                "pgvpd --upstream-host db.internal --listen-host 10.0.0.5\npsql postgresql://app_user.acme@10.0.0.5:6432/mydb",
            ),
            Text("Check a configuration, then have the running proxy read it:"),
            Code("pgvpd --check-config --config /etc/pgvpd.conf && pkill -HUP -x pgvpd"),
            Text("Fail where a database has a hole that lets one tenant reach another's rows:"),
            Code("pgvpd check --database shop --fail-on high"),
            Text("Complete the command line in this bash:"),
            Code("source <(pgvpd completions bash)"),
        ],
    ),
    ("SEE ALSO", &[Text("psql(1), postgres(1). PostgreSQL's manual on row security policies: CREATE POLICY(7).")]),
];

/// Prints the page.
pub(crate) fn print() -> Outcome {
    output::print(page().as_bytes())
}

/// The page, in roff.
fn page() -> String {
    let command = args::command().override_usage(SYNOPSIS);
    let man = Man::new(command.clone());
    let mut page = [
        title(&command),
        section(|out| man.render_name_section(out)),
        section(|out| man.render_synopsis_section(out)),
        written("DESCRIPTION", DESCRIPTION),
        arranged(&section(|out| man.render_options_section(out))),
    ]
    .concat();
    page.push_str(".SH COMMANDS\n");
    for subcommand in command.get_subcommands() {
        let nested: Vec<_> = subcommand.get_subcommands().collect();
        match &nested[..] {
            [] => page.push_str(&described(subcommand, &[])),
            nested => nested.iter().for_each(|command| page.push_str(&described(command, &[subcommand.get_name()]))),
        }
    }
    for (title, parts) in SECTIONS {
        page.push_str(&written(title, parts));
    }
    preamble() + &page
}

/// Written here because an empty date, which clap_mangen would leave out, has to be quoted.
fn title(command: &Command) -> String {
    format!(".TH PGVPD 1 \"\" \"pgvpd {}\" \"pgvpd manual\"\n", command.get_version().unwrap_or_default())
}

/// A subcommand with its own options, as a part of the section about commands.
fn described(subcommand: &Command, parents: &[&str]) -> String {
    let usage = subcommand.clone().render_usage().to_string();
    let usage = [parents, &[usage.trim_start_matches("Usage: ")]].concat().join(" ");
    let man = Man::new(subcommand.clone().disable_help_flag(true));
    let mut heading = Roff::new();
    heading.control("SS", [format!("pgvpd {usage}").as_str()]);
    heading.text([roman(subcommand.get_long_about().map(ToString::to_string).unwrap_or_default())]);
    let options = section(|out| man.render_options_section(out));
    without_preamble(&heading.render()) + options.trim_start_matches(".SH OPTIONS\n")
}

fn written(title: &str, parts: &[Part]) -> String {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (index, part) in parts.iter().enumerate() {
        if index > 0 && !matches!(part, Term(..)) {
            roff.control("PP", []);
        }
        match part {
            Text(text) => roff.text([roman(*text)]),
            Term(term, meaning) => roff.control("TP", []).text([bold(*term)]).text([roman(*meaning)]),
            Code(code) => {
                roff.control("RS", ["4"]).control("nf", []);
                for line in code.lines() {
                    roff.text([bold(line)]);
                }
                roff.control("fi", []).control("RE", [])
            }
        };
    }
    without_preamble(&roff.render())
}

/// Makes the topics parts of the section about options, where each would be a section, and gives default and variable
/// a line of their own.
fn arranged(options: &str) -> String {
    let topic = |line: &str| {
        let heading = line.strip_prefix(".SH ")?.trim_matches('"');
        OPTIONS.iter().map(|option| option.topic.title()).find(|title| title.to_uppercase() == heading)
    };
    let arranged = |line: &str| match topic(line) {
        Some(topic) => format!(".SS \"{topic}\"\n"),
        None if line.starts_with("[default: ") => format!(".br\n{line}\n"),
        None => format!("{line}\n"),
    };
    options.lines().map(arranged).collect()
}

fn section(render: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    let rendered = render(&mut out);
    debug_assert!(rendered.is_ok(), "memory takes any text");
    without_preamble(&String::from_utf8_lossy(&out))
}

/// What stands before each piece that is rendered, and is needed once: the definition of the apostrophe.
fn preamble() -> String {
    Roff::new().render()
}

fn without_preamble(text: &str) -> String {
    text.replace(&preamble(), "")
}
