//! `pgvpd completions`: the script that makes a shell complete the command line.

use clap_complete::Shell;

use crate::args;
use crate::exit::Outcome;
use crate::output;

/// Prints the script for this shell.
pub(crate) fn print(shell: Shell) -> Outcome {
    output::print(script(shell).as_bytes())
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "pgvpd", &mut script);
    let script = String::from_utf8_lossy(&script);
    match shell {
        Shell::Bash => script.replacen(BASH.0, BASH.1, 1),
        Shell::Fish => script.replacen(FISH.0, FISH.1, 1),
        _ => script.into_owned(),
    }
}

/// Bash makes three words of `--option=value`; the line that looks at the word before knows two.
const BASH: (&str, &str) = (
    "    prev=\"$3\"\n",
    "    prev=\"$3\"
    if [[ \"${prev}\" == \"=\" ]]; then
        prev=\"${COMP_WORDS[COMP_CWORD - 2]}\"
    fi
",
);

/// An option whose value is yet to be typed is no command line to argparse, so that nothing would be offered for it.
const FISH: (&str, &str) = (
    "    argparse -s (__fish_pgvpd_global_optspecs) -- $cmd 2>/dev/null\n",
    "    argparse -s (__fish_pgvpd_global_optspecs) -- $cmd 2>/dev/null
    or argparse -s (__fish_pgvpd_global_optspecs) -- $cmd '' 2>/dev/null
",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_are_mended_are_there() {
        for (shell, (before, after)) in [(Shell::Bash, BASH), (Shell::Fish, FISH)] {
            let script = script(shell);
            assert_eq!((script.matches(before).count(), script.matches(after).count()), (1, 1), "{shell}");
        }
    }
}
