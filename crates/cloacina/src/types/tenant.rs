//! Validates the names and passwords of tenants before they are sent to a server (semantics H1).

use super::error::{Error, ErrorCode};

/// Maximum length of an identifier in bytes. PostgreSQL truncates longer identifiers, so two of them could become equal.
const MAX_BYTES: usize = 63;
const HINT: &str = "use at most 63 of A-Z a-z 0-9 _, and do not begin with a digit";

/// Checks the name of a schema for a runner.
///
/// # Errors
/// Returns `Configuration` for an invalid name. The message and its hint state the rules for names.
pub fn check_schema_name(name: &str) -> Result<(), Error> {
    check_identifier("Schema name", name)?;
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("pg_") || lower == "information_schema" {
        return Err(reserved("Schema name", name));
    }
    Ok(())
}

/// Checks the name of a tenant's schema. `public` is refused, because every role can use that schema.
///
/// # Errors
/// Returns the errors of [`check_schema_name`].
pub fn check_tenant_schema_name(name: &str) -> Result<(), Error> {
    check_schema_name(name)?;
    if name.eq_ignore_ascii_case("public") {
        return Err(reserved("Schema name", name));
    }
    Ok(())
}

/// Checks the name of a tenant's role.
///
/// # Errors
/// Returns the errors of [`check_schema_name`].
pub fn check_role_name(name: &str) -> Result<(), Error> {
    check_identifier("Username", name)?;
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("pg_") || lower == "public" || lower == "none" {
        return Err(reserved("Username", name));
    }
    Ok(())
}

/// Checks a password that the caller chose. The error message never contains the password.
///
/// # Errors
/// Returns `Configuration` for a password that PostgreSQL cannot store.
pub fn check_password(password: &str) -> Result<(), Error> {
    let refuse = |why: &str| {
        Err(Error::new(
            ErrorCode::Configuration,
            format!("the tenant's password {why}"),
        )
        .with_hint("omit the password to have a strong one generated"))
    };
    if password.is_empty() {
        return refuse("cannot be empty");
    }
    if password.contains('\0') {
        return refuse("cannot contain a NUL character");
    }
    Ok(())
}

fn check_identifier(what: &str, name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::new(
            ErrorCode::Configuration,
            format!("{what} cannot be empty"),
        ));
    }
    let is_good = name.len() <= MAX_BYTES
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_good {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    let message =
        format!("{what} '{shown}' must contain only alphanumeric characters and underscores");
    Err(Error::new(ErrorCode::Configuration, message).with_hint(HINT))
}

fn reserved(what: &str, name: &str) -> Error {
    Error::new(
        ErrorCode::Configuration,
        format!("{what} '{name}' is reserved"),
    )
    .with_hint("choose a name that does not begin with pg_ and that PostgreSQL does not reserve")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h1_hostile_names_are_refused() {
        let long = "x".repeat(64);
        let hostile = [
            "",
            " ",
            "a b",
            "a;b",
            "a\"b",
            "a'b",
            "a\\b",
            "a-b",
            "a.b",
            "a\0b",
            "a\n",
            "1a",
            "ä",
            "ａ",
            "a\u{200b}",
            "pg_x",
            "PG_x",
            "a\"; DROP SCHEMA public CASCADE; --",
            long.as_str(),
        ];
        for name in hostile {
            for check in [check_schema_name, check_tenant_schema_name, check_role_name] {
                let error = check(name).unwrap_err();
                assert_eq!(error.code, ErrorCode::Configuration, "{name:?}");
            }
        }
        for name in ["information_schema", "Information_Schema"] {
            assert!(check_schema_name(name).is_err(), "{name}");
        }
        assert!(check_tenant_schema_name("public").is_err());
        assert!(check_role_name("public").is_err() && check_role_name("none").is_err());
        assert!(check_schema_name("public").is_ok());
    }

    #[test]
    fn h1_valid_names_are_accepted_including_keywords() {
        let longest = "x".repeat(63);
        for name in ["a", "_", "A1_b", "select", "user", "table", &longest] {
            check_tenant_schema_name(name).unwrap();
            check_role_name(name).unwrap();
        }
    }

    #[test]
    fn h1_refused_password_is_not_in_the_message() {
        for password in ["", "s3cret\0"] {
            let text = check_password(password).unwrap_err().to_string();
            assert!(!text.contains("s3cret"), "{text}");
        }
        check_password(" '\"\\$;%@:/?#&ä€").unwrap();
    }
}
