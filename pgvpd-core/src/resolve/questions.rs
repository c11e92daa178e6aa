//! What resolvers are asked, and what their answers amount to. No I/O.

use std::sync::Arc;

use super::batch::{Question, Values, Verdict, within_bounds};
use super::code::{CodeError, CodeValues};
use super::definition::Resolver;
use super::fault::{Fault, ResolveError};
use super::live::Found;
use crate::tenant::VariableName;

fn value<'c>(context: &'c Found, variable: &VariableName) -> &'c str {
    context.iter().find(|(name, _)| name == variable).map_or("", |(_, value)| value)
}

/// The values of its parameters.
pub(super) fn params(resolver: &Resolver, context: &Found) -> Vec<String> {
    resolver.params.iter().map(|variable| value(context, variable).to_owned()).collect()
}

/// What is to be asked; `None` where a parameter is empty.
pub(super) fn question(resolver: &Arc<Resolver>, context: &Found) -> Result<Option<Question>, ResolveError> {
    let empty = resolver.params.iter().find(|variable| value(context, variable).is_empty());
    match empty {
        Some(variable) if resolver.required => Err(Fault::NoParameter(variable.to_string()).of(resolver)),
        Some(_) => Ok(None),
        None => Ok(Some(Question { resolver: Arc::clone(resolver), params: params(resolver, context).into() })),
    }
}

/// The verdict on a required resolver that has found nothing.
pub(super) fn required(question: &Question, verdict: Verdict) -> Result<Values, Fault> {
    match verdict? {
        None if question.resolver.required => Err(Fault::Nothing),
        values => Ok(values),
    }
}

/// The verdict of code.
pub(super) fn of_code(resolver: &Resolver, answered: Result<Result<CodeValues, CodeError>, Fault>) -> Verdict {
    let values = answered?.map_err(|error| Fault::Failed(error.to_string().into()))?;
    let Some(values) = values else { return Ok(None) };
    if values.len() != resolver.inject.len() {
        return Err(Fault::Count(values.len(), resolver.inject.len()));
    }
    let values: Vec<String> = values.into_iter().map(Option::unwrap_or_default).collect();
    if let Some((_, (variable, _))) = values.iter().zip(&resolver.inject).find(|(value, _)| value.contains('\0')) {
        return Err(Fault::NotText(variable.to_string()));
    }
    within_bounds(values.iter())?;
    Ok(Some(values.into()))
}
