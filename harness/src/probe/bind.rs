//! How the tenant context is bound: statements in which `$1` stands for what names the tenant.

use super::ground::Tenant;
use super::subject::literal;
use super::trial::Context;
use crate::error::{Error, Result};

/// The statements that bind a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    statements: Vec<String>,
}

impl Binding {
    /// A binding by `statements`, as they were typed.
    ///
    /// # Errors
    /// One without `$1` would bind everybody to the same.
    pub fn by(statements: Vec<String>) -> Result<Self> {
        match statements.iter().find(|statement| !statement.contains("$1")) {
            Some(statement) => Err(Error::Usage(format!(
                "the tenant context `{statement}` has no $1 where the tenant stands; write it as \
                 SELECT set_config('app.tenant', $1, true)"
            ))),
            None => Ok(Self { statements }),
        }
    }

    /// How many values it takes.
    pub fn width(&self) -> usize {
        self.statements.len()
    }

    /// True where nothing is bound.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// As a reader knows it.
    pub fn shown(&self) -> String {
        self.statements.join("; ")
    }

    /// The statement that binds `context`.
    pub fn sql(&self, context: &Context, tenants: &[Tenant]) -> String {
        let value = |place: usize| match context {
            Context::Empty => "",
            Context::Malformed(text) => text,
            Context::Tenant(number) => {
                let tenant = tenants.get(*number);
                let own = tenant.and_then(|tenant| tenant.context.get(place).or(Some(&tenant.id)));
                own.map_or("", String::as_str)
            }
        };
        let values: Vec<String> = (0..self.width()).map(|place| value(place).to_string()).collect();
        self.of(&values)
    }

    /// The statement that binds `values`, one a place.
    pub fn of(&self, values: &[String]) -> String {
        let bound = self.statements.iter().zip(values);
        bound.map(|(statement, value)| statement.replace("$1", &literal(value))).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::Owner;

    #[test]
    fn a_tenant_stands_where_the_place_is_and_is_quoted() {
        let tenant = Tenant { owner: Owner::new(0), id: "o'neill".into(), context: vec![], planted: true };
        let binding = Binding::by(vec!["SELECT set_config('app.t', $1, true)".into()]).expect("a place");
        assert_eq!(binding.sql(&Context::Tenant(0), &[tenant]), "SELECT set_config('app.t', 'o''neill', true)");
        assert_eq!(binding.sql(&Context::Empty, &[]), "SELECT set_config('app.t', '', true)");
        assert!(Binding::by(vec!["SET app.t = 'x'".into()]).is_err());
    }
}
