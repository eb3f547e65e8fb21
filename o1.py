from h import *
n=int(sys.argv[2]); which=sys.argv[1]
rows=[{"n":i} for i in range(n)]
p={"top":hr.Top(3,by="n"),"reduce":hr.Reduce(lambda r:len(r)),"by":hr.Reduce(by="n"),
"pipe":hr.Pipeline(hr.Expand(lambda r:[1,2]),hr.Reduce(lambda r:len(r),every=7)),
"each":hr.Pipeline(hr.Expand(lambda r:[1,2]),hr.Reduce(lambda r:len(r),each=True))}[which]
async def s():
    c=0;pos=[]
    async for o in hr.stream(p, rows, store=st(), ordered=True): c+=1; pos.append(o.position)
    print(which,n,c,pos==sorted(pos))
t=time.time();asyncio.run(s());print(time.time()-t)
