//! `pgvpd completions`: a shell that has read the script is asked for candidates.

use std::path::Path;
use std::process::Command;

use pgvpd_core::config::OPTIONS;

use crate::support::{TestResult, run};

/// Reads the script and does what bash does at the tab key: calls the function that was registered, with the words up
/// to the cursor, and prints the candidates.
const ASK_BASH: &str = r#"
source "$1"; shift
registered=$(complete -p pgvpd); registered=${registered#* -F }
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
word=${COMP_WORDS[COMP_CWORD]}
"${registered%% *}" pgvpd "${word#=}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// A shell's script, in a directory with two files.
struct Script {
    directory: tempfile::TempDir,
}

impl Script {
    fn of(shell: &str) -> std::io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let script = run(&["completions", shell], &[]).code(0).stderr("");
        std::fs::write(directory.path().join("script"), &script.get_output().stdout)?;
        std::fs::create_dir(directory.path().join("there"))?;
        std::fs::write(directory.path().join("there/pgvpd.conf"), "")?;
        std::fs::write(directory.path().join("there/other.conf"), "")?;
        Ok(Self { directory })
    }

    fn ask(&self, program: &str, arguments: &[&str]) -> Result<Vec<String>, Box<dyn std::error::Error>> {
        let output = Command::new(program).args(arguments).current_dir(self.directory.path().join("there")).output()?;
        let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        // Bash says so where the function runs outside of a completion.
        let complaints: Vec<_> = stderr.lines().filter(|line| !line.contains("compopt: not currently")).collect();
        assert!(output.status.success() && complaints.is_empty(), "{stderr}");
        Ok(stdout.lines().map(str::to_owned).collect())
    }

    /// What bash offers for these words, of which the last is unfinished.
    fn bash(&self, words: &[&str]) -> Result<Vec<String>, Box<dyn std::error::Error>> {
        self.ask("bash", &[&["--norc", "-c", ASK_BASH, "bash", "../script", "pgvpd"], words].concat())
    }
}

#[test]
fn bash_completes_every_option_and_command_by_its_name() -> TestResult {
    let script = Script::of("bash")?;
    let all = script.bash(&[""])?;
    for name in OPTIONS.iter().map(|option| format!("--{}", option.flag())) {
        assert!(all.contains(&name), "{name}: {all:?}");
        assert!(script.bash(&[&name])?.contains(&name), "{name}");
    }
    assert_eq!(script.bash(&["--tenant-de"])?, ["--tenant-deny"]);
    assert_eq!(script.bash(&["--port", "1", "--check"])?, ["--check-config"]);
    assert_eq!(script.bash(&["com"])?, ["completions"]);
    assert_eq!(script.bash(&["demo", "--on"])?, ["--once"]);
    assert_eq!(script.bash(&["completions", "po"])?, ["powershell"]);
    assert_eq!(script.bash(&["key", "ro"])?, ["rotate"]);
    assert_eq!(script.bash(&["key", "rotate", "--ke"])?, ["--keep"]);
    assert_eq!(script.bash(&["protect", "--col"])?, ["--column"]);
    Ok(())
}

#[test]
fn bash_completes_values_in_both_spellings() -> TestResult {
    let script = Script::of("bash")?;
    assert_eq!(script.bash(&["--log-format", ""])?, ["text", "json"]);
    assert_eq!(script.bash(&["--log-format", "j"])?, ["json"]);
    assert_eq!(script.bash(&["--log-format", "="])?, ["text", "json"]);
    assert_eq!(script.bash(&["--log-format", "=", "j"])?, ["json"]);
    assert_eq!(script.bash(&["--allow-trust", "t"])?, ["true"]);
    assert_eq!(script.bash(&["--tenant-format", "u"])?, ["uuid"]);
    Ok(())
}

#[test]
fn bash_offers_files_for_a_file_and_for_nothing_else() -> TestResult {
    let script = Script::of("bash")?;
    let mut files = script.bash(&["--config", ""])?;
    files.sort();
    assert_eq!(files, ["other.conf", "pgvpd.conf"]);
    assert_eq!(script.bash(&["-c", "p"])?, ["pgvpd.conf"]);
    assert_eq!(script.bash(&["key", "rotate", "--config", "p"])?, ["pgvpd.conf"]);
    assert_eq!(script.bash(&["--set-role", "p"])?, ["p"]);
    Ok(())
}

#[test]
fn fish_completes_names_and_values_where_it_is_installed() -> TestResult {
    if !installed("fish") {
        return Ok(());
    }
    let script = Script::of("fish")?;
    let ask = |line: &str| {
        let lines = script.ask("fish", &["--no-config", "-c", &format!("source ../script; complete -C'{line}'")])?;
        Ok::<_, Box<dyn std::error::Error>>(
            lines.iter().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(ask("pgvpd --tenant-de")?, ["--tenant-deny"]);
    assert_eq!(ask("pgvpd --log-format=j")?, ["--log-format=json"]);
    assert_eq!(ask("pgvpd --log-format ")?, ["json", "text"]);
    assert_eq!(ask("pgvpd --allow-trust ")?, ["false", "true"]);
    assert_eq!(ask("pgvpd demo --on")?, ["--once"]);
    Ok(())
}

#[test]
fn zsh_reads_its_script_where_it_is_installed() -> TestResult {
    if installed("zsh") {
        Script::of("zsh")?.ask("zsh", &["-f", "-n", "../script"])?;
    }
    Ok(())
}

#[test]
fn a_script_comes_for_every_shell_whatever_the_environment_holds() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let environment = [("PGVPD_PORT", "x"), ("PGVPD_TENANT_DNEY", "x"), ("PGVPD_CONFIG", "/nowhere")];
        let script = run(&["completions", shell], &environment).code(0).stderr("");
        let script = String::from_utf8_lossy(&script.get_output().stdout).into_owned();
        for option in OPTIONS {
            assert!(script.contains(&option.flag()), "{shell}: {}", option.name);
        }
    }
    run(&["completions"], &[]).code(2);
    run(&["completions", "csh"], &[]).code(2);
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| Path::new(&directory).join(program).is_file())
}
