//! Trigger rules (semantics C2). The engine evaluates them.

use serde::{Deserialize, Serialize};

use crate::types::{Error, ErrorCode, Json, nearest};

/// The condition that decides, once all dependencies of a task have ended, whether the task runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerRule {
    /// All dependencies completed.
    AllSuccess,
    /// All dependencies failed.
    AllFailed,
    /// All dependencies ended, in any state.
    AllDone,
    /// At least one dependency completed.
    OneSuccess,
    /// At least one dependency failed.
    OneFailed,
    /// No dependency failed or was skipped because of a failure.
    #[default]
    NoneFailed,
    /// The task always runs.
    Always,
    /// The named task completed.
    TaskSuccess {
        /// The task's id.
        task: String,
    },
    /// The named task failed.
    TaskFailed {
        /// The task's id.
        task: String,
    },
    /// The named task was skipped.
    TaskSkipped {
        /// The task's id.
        task: String,
    },
    /// A comparison with a value in the context that the task sees.
    ContextValue {
        /// The key in the context.
        key: String,
        /// The comparison.
        operator: Operator,
        /// The value with which the value of the key is compared.
        value: Json,
    },
    /// All conditions hold.
    AllOf {
        /// The conditions.
        conditions: Vec<TriggerRule>,
    },
    /// At least one condition holds.
    AnyOf {
        /// The conditions.
        conditions: Vec<TriggerRule>,
    },
    /// No condition holds.
    NoneOf {
        /// The conditions.
        conditions: Vec<TriggerRule>,
    },
}

impl TriggerRule {
    /// The names of the rules without arguments, which `trigger_rule=` accepts.
    pub const NAMES: &'static [&'static str] = &[
        "all_success",
        "all_failed",
        "all_done",
        "one_success",
        "one_failed",
        "none_failed",
        "always",
    ];

    /// Returns the rule that has this name.
    ///
    /// # Errors
    /// Returns `TaskInvalid` if no rule has the name; the hint lists the valid names.
    pub fn from_name(name: &str) -> Result<Self, Error> {
        Ok(match name {
            "all_success" => Self::AllSuccess,
            "all_failed" => Self::AllFailed,
            "all_done" => Self::AllDone,
            "one_success" => Self::OneSuccess,
            "one_failed" => Self::OneFailed,
            "none_failed" => Self::NoneFailed,
            "always" => Self::Always,
            _ => {
                let error = Error::new(
                    ErrorCode::TaskInvalid,
                    format!("unknown trigger_rule '{name}'"),
                );
                let known = format!("one of {}", Self::NAMES.join(", "));
                return Err(
                    error.with_hint(match nearest(name, Self::NAMES.iter().copied()) {
                        Some(near) => format!("did you mean '{near}'? trigger_rule takes {known}"),
                        None => format!("trigger_rule takes {known}"),
                    }),
                );
            }
        })
    }

    /// Calls `rename` with every task id in the tree of rules.
    pub(super) fn rename_tasks(&mut self, rename: &impl Fn(&mut String)) {
        match self {
            Self::TaskSuccess { task } | Self::TaskFailed { task } | Self::TaskSkipped { task } => {
                rename(task);
            }
            Self::AllOf { conditions }
            | Self::AnyOf { conditions }
            | Self::NoneOf { conditions } => {
                for condition in conditions {
                    condition.rename_tasks(rename);
                }
            }
            _ => {}
        }
    }

    /// Returns whether the rule may skip a task even if all of the task's dependencies completed. Also returns `true`
    /// for rules with arguments that cannot do this, such as `task_success`.
    #[must_use]
    pub const fn may_skip_without_failure(&self) -> bool {
        !matches!(
            self,
            Self::AllSuccess | Self::AllDone | Self::OneSuccess | Self::NoneFailed | Self::Always
        )
    }

    /// Calls `visit` with every rule in the tree, beginning with this rule.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        for condition in self.conditions() {
            condition.walk(visit);
        }
    }

    /// Returns the conditions that `all_of`, `any_of` or `none_of` combines; empty for other rules.
    #[must_use]
    pub fn conditions(&self) -> &[Self] {
        match self {
            Self::AllOf { conditions }
            | Self::AnyOf { conditions }
            | Self::NoneOf { conditions } => conditions,
            _ => &[],
        }
    }

    /// Returns the ids of the tasks that the rule names, without duplicates, in the order in which they first occur.
    #[must_use]
    pub fn named_tasks(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        self.walk(&mut |rule| {
            if let Self::TaskSuccess { task }
            | Self::TaskFailed { task }
            | Self::TaskSkipped { task } = rule
                && !names.contains(&task.as_str())
            {
                names.push(task);
            }
        });
        names
    }

    /// Returns whether the rule tests for failed dependencies without naming a task.
    #[must_use]
    pub fn asks_for_failure(&self) -> bool {
        let mut asks = false;
        self.walk(&mut |rule| asks |= matches!(rule, Self::OneFailed | Self::AllFailed));
        asks
    }

    /// Returns whether the rule reads the context.
    #[must_use]
    pub fn reads_context(&self) -> bool {
        let mut reads = false;
        self.walk(&mut |rule| reads |= matches!(rule, Self::ContextValue { .. }));
        reads
    }
}

/// The comparison of a `context_value` rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// The values are equal. Numbers are compared by value.
    Equals,
    /// The values are not equal.
    NotEquals,
    /// The value of the key is greater. Compares a number with a number, or a string with a string.
    GreaterThan,
    /// The value of the key is greater or equal.
    GreaterOrEqual,
    /// The value of the key is less.
    LessThan,
    /// The value of the key is less or equal.
    LessOrEqual,
    /// The value of the key contains the given value: a string contains it as a part, an array as an element, or an object as
    /// a key.
    Contains,
    /// The opposite of `contains`.
    NotContains,
    /// The key is present, with any value.
    Exists,
    /// The key is absent.
    NotExists,
}

impl Operator {
    /// Returns the spelling that messages use.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Equals => "==",
            Self::NotEquals => "!=",
            Self::GreaterThan => ">",
            Self::GreaterOrEqual => ">=",
            Self::LessThan => "<",
            Self::LessOrEqual => "<=",
            Self::Contains => "contains",
            Self::NotContains => "not_contains",
            Self::Exists => "exists",
            Self::NotExists => "not_exists",
        }
    }

    /// Parses an operator: `==`, `eq`, `Equals`, `equals` and similar spellings.
    ///
    /// # Errors
    /// Returns `TaskInvalid` if the spelling is unknown; the hint lists the short spellings.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let plain: String = text
            .chars()
            .filter(|c| *c != '_' && *c != ' ')
            .flat_map(char::to_lowercase)
            .collect();
        Ok(match plain.as_str() {
            "==" | "=" | "eq" | "equals" | "equal" => Self::Equals,
            "!=" | "<>" | "ne" | "neq" | "notequals" | "notequal" => Self::NotEquals,
            ">" | "gt" | "greaterthan" => Self::GreaterThan,
            ">="
            | "ge"
            | "gte"
            | "greaterorequal"
            | "greaterthanorequal"
            | "greaterthanorequals" => Self::GreaterOrEqual,
            "<" | "lt" | "lessthan" => Self::LessThan,
            "<=" | "le" | "lte" | "lessorequal" | "lessthanorequal" | "lessthanorequals" => {
                Self::LessOrEqual
            }
            "contains" | "in" => Self::Contains,
            "notcontains" | "notin" => Self::NotContains,
            "exists" => Self::Exists,
            "notexists" => Self::NotExists,
            _ => {
                let error = Error::new(
                    ErrorCode::TaskInvalid,
                    format!("unknown operator '{text}' of context_value"),
                );
                return Err(error.with_hint(
                    "use ==, !=, >, >=, <, <=, contains, not_contains, exists or not_exists",
                ));
            }
        })
    }
}
