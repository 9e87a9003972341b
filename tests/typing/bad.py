"""User code that must not type-check: pyright has to object to every line that ends in `# error`, and to no other."""

from pydantic import BaseModel

import stepwell
from stepwell import Context


class Order(BaseModel):
    total: int


async def load(order_id: str) -> int:
    stepwell.current_step().progress("half")  # error
    stepwell.current_step().progress(0.5, 150)  # error
    return len(order_id)


@stepwell.function(id="child")
async def child(ctx: Context) -> int:
    return 1


@stepwell.function(id="bad", triggers=[stepwell.on_event("order", Order)])
async def bad(ctx: Context[Order]) -> None:
    print(ctx.event.data.totl)  # error
    text: str = await ctx.step.run("load", load, "7")  # error
    other: str = await ctx.step.invoke("child", child)  # error
    await ctx.step.sleep("nap", None)  # error
    await ctx.step.run(7, load, "7")  # error
    paid = await ctx.step.wait_for_event("paid", event="paid", timeout="1d")
    print(paid.data, text, other)  # error
    await ctx.step.wait_for_event("forever", event="paid")  # error


@stepwell.function(triggers=[])  # error
async def nameless(ctx: Context) -> None: ...


@stepwell.function(id="sync")  # error
def sync(ctx: Context) -> int:
    return 1
