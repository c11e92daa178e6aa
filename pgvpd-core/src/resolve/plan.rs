//! In which order resolvers run: by levels, those of one level at once. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::definition::Resolver;
use crate::tenant::VariableName;

/// The most variables that resolvers may give: their values cross the wire in one message with the context.
const MAX_OUTPUTS: usize = 32;

/// Resolvers in an order in which they can run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    levels: Vec<Vec<Arc<Resolver>>>,
    outputs: Arc<[VariableName]>,
}

impl Plan {
    /// Orders resolvers for user names that fill these variables. An error lists everything that is wrong.
    pub(crate) fn new(resolvers: Vec<Resolver>, given: &[VariableName]) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut problem =
            |resolver: &Resolver, message: String| problems.push(format!("resolver {:?}: {message}", resolver.name));
        let mut names = BTreeSet::new();
        let mut givers: BTreeMap<&VariableName, &Resolver> = BTreeMap::new();
        for resolver in &resolvers {
            resolver.problems().into_iter().for_each(|message| problem(resolver, message));
            if !names.insert(resolver.name.as_str()) {
                problem(resolver, "another one has this name".into());
            }
            for (variable, _) in &resolver.inject {
                if given.contains(variable) {
                    problem(resolver, format!("{variable} is filled by the user name (context_variables)"));
                } else if let Some(other) = givers.insert(variable, resolver) {
                    problem(resolver, format!("{variable} is given by {:?} too", other.name));
                }
            }
        }
        if givers.len() > MAX_OUTPUTS {
            problems.push(format!("there are {} variables to inject, and not at most {MAX_OUTPUTS}", givers.len()));
        }
        let mut needs: Vec<BTreeSet<&str>> = Vec::new();
        for resolver in &resolvers {
            let mut needed = BTreeSet::new();
            for name in &resolver.depends_on {
                if !names.contains(name.as_str()) {
                    problem_of(&mut problems, resolver, format!("depends_on names {name:?}, and there is none"));
                }
                needed.insert(name.as_str());
            }
            for variable in resolver.params.iter().filter(|variable| !given.contains(variable)) {
                match givers.get(variable) {
                    Some(giver) => _ = needed.insert(giver.name.as_str()),
                    None => {
                        let known: Vec<&str> = given.iter().chain(givers.keys().copied()).map(|v| v.as_str()).collect();
                        let message = format!("unknown parameter {variable}; there are {}", known.join(", "));
                        problem_of(&mut problems, resolver, message);
                    }
                }
            }
            needs.push(needed);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let outputs = resolvers.iter().flat_map(|resolver| &resolver.inject).map(|(variable, _)| variable.clone());
        let outputs = outputs.collect();
        let mut left: Vec<(&Resolver, BTreeSet<&str>)> = resolvers.iter().zip(needs).collect();
        let mut levels = Vec::new();
        while !left.is_empty() {
            let (ready, waiting): (Vec<_>, Vec<_>) = left.into_iter().partition(|(_, needs)| needs.is_empty());
            if ready.is_empty() {
                let names: Vec<&str> = waiting.iter().map(|(resolver, _)| resolver.name.as_str()).collect();
                return Err(vec![format!("these resolvers wait for each other: {}", names.join(", "))]);
            }
            left = waiting;
            for (resolver, _) in &ready {
                left.iter_mut().for_each(|(_, needs)| _ = needs.remove(resolver.name.as_str()));
            }
            levels.push(ready.into_iter().map(|(resolver, _)| Arc::new(resolver.clone())).collect());
        }
        Ok(Self { levels, outputs })
    }

    /// Level by level.
    pub(crate) fn levels(&self) -> &[Vec<Arc<Resolver>>] {
        &self.levels
    }

    /// All of them, in an order in which they can run.
    pub(crate) fn resolvers(&self) -> impl Iterator<Item = &Arc<Resolver>> {
        self.levels.iter().flatten()
    }

    /// The variables that they give.
    pub(crate) fn outputs(&self) -> &Arc<[VariableName]> {
        &self.outputs
    }
}

fn problem_of(problems: &mut Vec<String>, resolver: &Resolver, message: String) {
    problems.push(format!("resolver {:?}: {message}", resolver.name));
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
