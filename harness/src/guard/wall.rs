//! What the policies of a table together let through to one database role.

use super::catalog::{Command, Policy, Relation};
use super::expression::{Evaluator, Truth, Whose};

impl<'a> Evaluator<'a> {
    /// Whether rows that are there and are `whose` can be seen, changed or deleted by the command.
    pub fn lets(&self, relation: &'a Relation, command: Command, whose: &Whose) -> Truth {
        self.through(relation, command, |policy| Some(self.condition(policy.visible(command)?, relation, whose)))
    }

    /// Whether the command may leave a row behind that is `whose`.
    pub fn accepts(&self, relation: &'a Relation, command: Command, whose: &Whose) -> Truth {
        self.through(relation, command, |policy| Some(self.condition_of_new(policy.checked(command)?, relation, whose)))
    }

    fn through(
        &self,
        relation: &'a Relation,
        command: Command,
        condition: impl Fn(&'a Policy) -> Option<Truth>,
    ) -> Truth {
        let role = self.role();
        if self.catalog().bypasses(role, relation) {
            return Truth::yes();
        }
        let (mut open, mut narrowed) = (Truth::no(), Truth::yes());
        for policy in self.catalog().policies_of(relation.oid) {
            if !policy.covers(command) || !self.catalog().applies(policy, role) {
                continue;
            }
            let one = match condition(policy) {
                Some(truth) => truth.is(true, false, false),
                // A policy that says nothing of this side restricts nothing there, and opens nothing.
                None if policy.permissive => Truth::no(),
                None => Truth::yes(),
            };
            if policy.permissive {
                open = open.or(&one);
            } else {
                narrowed = narrowed.and(&one);
            }
        }
        open.and(&narrowed)
    }
}
