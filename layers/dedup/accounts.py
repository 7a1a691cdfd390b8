"""An upload's account as the API shows it."""

from dataclasses import asdict

from dedup import bucket
from dedup.answers import UploadAccount
from dedup.store import Account


def shown(account: Account) -> UploadAccount:
    """The account with a URL for the rejected rows in the place of their key."""
    url: str | None = None
    if account.rejected_key:
        url = bucket.download_url(account.rejected_key, account.rejected_version)
    return UploadAccount.model_validate({**asdict(account), "rejected_url": url})
