"""The name of a user as the site's identity provider gives it, for people who share a case. Empty for all others."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Adds the column."""
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("display_name", sa.String(), nullable=True))


def downgrade() -> None:
    """Removes the column."""
    with op.batch_alter_table("users") as users:
        users.drop_column("display_name")
