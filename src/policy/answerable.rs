//! Who answers for an agent, where policy wants somebody to.
//!
//! Knows nothing about what may be seen: an agent that nobody answers for sees nothing at
//! all, whatever its grants are. Invariant: asked of the roles that are used and of the
//! dataset, each time that rights are, so it ends sessions that it does not let begin.

use super::Policy;
use crate::error::{SqlState, Told};
use crate::identity::{Kind, Principal};

/// Who must answer for an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answerable {
    /// A human: its owner, or on whose behalf it acts.
    Owner,
    /// The human on whose behalf it acts.
    Delegation,
}

impl Policy {
    /// Whether somebody answers for a principal, as its roles want it, and as that dataset
    /// does.
    ///
    /// # Errors
    /// FATAL, by the first rule that wants more.
    pub(crate) fn answers(&self, principal: &Principal, dataset: Option<&str>) -> Result<(), Told> {
        if principal.kind != Kind::Agent || principal.on_behalf_of.is_some() {
            return Ok(());
        }
        let known = self.identities.get(&principal.name);
        let roles = known.map_or(&principal.roles, |identity| &identity.roles);
        let by_role = roles
            .iter()
            .filter(|role| principal.uses(role))
            .filter_map(|role| {
                let (wanted, place) = self.answerable.get(role)?;
                Some((*wanted, format!("role {role} ({place})")))
            });
        let dataset = dataset.and_then(|name| self.datasets.get_key_value(name));
        let by_dataset = dataset.and_then(|(name, dataset)| {
            Some((
                dataset.agents?,
                format!("dataset {name} ({})", dataset.place),
            ))
        });
        let owner = principal.owner.as_ref();
        let owner = owner.and_then(|owner| self.identities.get(owner));
        let owned = owner.is_some_and(|owner| !owner.disabled);
        let mut wanted = by_role.chain(by_dataset);
        let unmet = wanted.find(|(wanted, _)| *wanted == Answerable::Delegation || !owned);
        let Some((wanted, rule)) = unmet else {
            return Ok(());
        };
        let (what, hint) = match wanted {
            Answerable::Owner => (
                "have an owner",
                "ask whoever keeps identities.yaml to name its `owner`",
            ),
            Answerable::Delegation => (
                "act on behalf of somebody",
                "connect by a token of `pgveil token mint --on-behalf-of` or `pgveil login --for`",
            ),
        };
        let name = &principal.name;
        let message = format!("the agent `{name}` must {what}: {rule}");
        Err(Told::fatal(SqlState::INVALID_AUTHORIZATION, message).hint(hint))
    }
}
