"""`python -m bench prior`: learns the ranker of shops without sessions from folders of public data."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.progress import Progress

from bench.output import progress_console, require_folder
from bench.quality.data import read_split
from bench.quality.ours import Texts, shop_of
from export.ranker.prior import learn_prior
from export.ranker.train import Shop
from udfs.core.errors import ShopstreamError


def run(folders: Sequence[Path], out: Path, bundles: Path | None) -> None:
    """Learn from the training sessions of each folder, without repeats, and write LightGBM's text to `out`.

    bundles: see bench.quality.run.Options. Raises ShopstreamError for a folder without titles.
    """
    if out.is_dir():
        raise ShopstreamError(f"--out {out} is a folder: name a file")
    require_folder("--out", out)
    texts, shops = Texts(bundles), list[Shop]()
    for folder in folders:
        split = read_split(folder, repeats=False)
        if split.catalog is None:
            raise ShopstreamError(f"{folder} has no items.csv: the prior learns from titles")
        shops.append(shop_of(split.train, split.catalog, texts))
    console = progress_console()
    with TemporaryDirectory(prefix="shopstream-prior-") as temporary, Progress(console=console, transient=True) as bar:
        task = bar.add_task("learn", total=1)
        text = learn_prior(shops, Path(temporary), lambda share: bar.update(task, completed=share))
    out.write_text(text, encoding="utf-8")
    console.print(
        f"{out}; next, on other data: bench quality --no-repeats --only ours-prior,ours-blend,pop --prior {out}",
        markup=False,
    )
